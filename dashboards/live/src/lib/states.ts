/** What a machine's state looks like, and which states want somebody's attention. */

import type { Machine, MachineState, Site } from "./types.ts";

export type ShownState = MachineState | "no_contact";
export type Look = "running" | "setup" | "rest" | "down" | "hatched";

const LOOKS: Record<ShownState, Look> = {
  running: "running",
  setup: "setup",
  idle: "rest",
  down_planned: "rest",
  off: "rest",
  down_unplanned: "down",
  unknown: "hatched",
  no_contact: "hatched",
};

/** Order of shown states from the most to the least pressing. */
export const URGENCY: readonly ShownState[] = [
  "down_unplanned",
  "no_contact",
  "unknown",
  "setup",
  "idle",
  "down_planned",
  "off",
  "running",
];

/** Without contact nothing is known, whatever the state was. */
export function shownState(machine: Machine): ShownState {
  return machine.contact ? machine.state : "no_contact";
}

export function lookOf(state: ShownState): Look {
  return LOOKS[state];
}

export function needsAttention(machine: Machine): boolean {
  const look = lookOf(shownState(machine));
  return look === "down" || look === "hatched";
}

export function machineCount(site: Site): number {
  return site.machines.running + site.machines.stopped + site.machines.no_contact;
}
