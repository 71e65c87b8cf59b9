/** Which alarms belong where, in which order, and how they look. */

import { contains } from "./router.ts";
import type { Look, ShownState } from "./states.ts";
import type { Alarm, Machine } from "./types.ts";

/** Kinds that take nothing away yet; every other one, an unknown one included, is as pressing as a machine that is down. */
const MILD: ReadonlySet<string> = new Set(["quarantine_growing", "buffer_low", "clock_offset"]);

/** One that somebody has acknowledged has no colour any more. */
export function alarmLook(alarm: Alarm): Look {
  if (alarm.acknowledged_at !== null) return "rest";
  return MILD.has(alarm.kind) ? "setup" : "down";
}

/** The state whose icon stands for this alarm, too. */
export function alarmIcon(alarm: Alarm): ShownState {
  return alarm.kind === "agent_silent" ? "no_contact" : "down_unplanned";
}

/** Alarms of a site and of what lies below it. */
export function alarmsAt(alarms: readonly Alarm[], site: string): Alarm[] {
  return sorted(alarms.filter((alarm) => contains(site, alarm.asset)));
}

/** The same, with those that concern more than this site: of the service itself, or of what the site lies in. */
export function alarmsFor(alarms: readonly Alarm[], site: string): Alarm[] {
  return sorted(alarms.filter(({ asset }) => asset === "" || contains(site, asset) || contains(asset, site)));
}

/** Kinds whose subject is an agent, or `agent/source`. */
const OF_AGENTS: ReadonlySet<string> = new Set(["agent_silent", "quarantine_growing", "buffer_low", "clock_offset"]);

/**
 * Alarms that concern a machine: its own, of who speaks for it, and of all that it lies in.
 *
 * Those of other agents and sources of its site do not; where nobody is known to speak for it, they may.
 */
export function alarmsOfMachine(alarms: readonly Alarm[], machine: Pick<Machine, "asset" | "served_by">): Alarm[] {
  const { asset, served_by } = machine;
  return sorted(
    alarms.filter((alarm) => {
      if (contains(asset, alarm.asset)) return true;
      if (served_by.length > 0 && OF_AGENTS.has(alarm.kind)) {
        return served_by.some((name) => contains(alarm.subject, name) || contains(name, alarm.subject));
      }
      return alarm.asset === "" || contains(alarm.asset, asset);
    }),
  );
}

/** Alarms that belong to none of these sites. */
export function alarmsElsewhere(alarms: readonly Alarm[], sites: readonly string[]): Alarm[] {
  return sorted(alarms.filter((alarm) => !sites.some((site) => contains(site, alarm.asset))));
}

const ORDER: readonly Look[] = ["down", "setup", "rest"];

/** The most pressing first, among equals the oldest; acknowledged ones last. */
function sorted(alarms: readonly Alarm[]): Alarm[] {
  const rank = (alarm: Alarm) => ORDER.indexOf(alarmLook(alarm));
  return [...alarms].sort((a, b) => rank(a) - rank(b) || a.since - b.since);
}
