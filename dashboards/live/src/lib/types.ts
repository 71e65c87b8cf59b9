/** What the ingestion service sends, as docs/specs/http-api.md defines it. Times are UTC milliseconds. */

export type MachineState =
  | "running"
  | "idle"
  | "setup"
  | "down_unplanned"
  | "down_planned"
  | "off"
  | "unknown";

export interface Site {
  asset: string;
  name: string;
  time_zone: string;
  machines: { running: number; stopped: number; no_contact: number };
  parts_today: number | null;
  power_kw: number | null;
  newest: number | null;
}

export interface Machine {
  asset: string;
  name: string;
  site: string;
  state: MachineState;
  since: number | null;
  contact: boolean;
  /** Who speaks for it, as subjects of alarms: `agent/source`, or `agent` where no source does; empty where unknown. */
  served_by: string[];
  reason: string;
  job: string;
  parts_today: number | null;
  power_kw: number | null;
  cycle_s: number | null;
  newest: number | null;
}

export interface AgentSource {
  name: string;
  protocol: string;
  state: string;
  message: string;
}

export interface Agent {
  id: string;
  asset: string;
  contact: boolean;
  last_contact: number | null;
  sources: AgentSource[];
}

/** Something that is wrong, or was: `until` is null while it lasts. */
export interface Alarm {
  id: string;
  kind: string;
  /** What it is about: an agent, `agent/source`, a stream, a store. */
  subject: string;
  /** Where; empty for the service itself. */
  asset: string;
  message: string;
  since: number;
  until: number | null;
  acknowledged_at: number | null;
  acknowledged_by: string;
}

export interface Series {
  id: number;
  asset: string;
  signal: string;
  unit: string;
}

/** A measured value: a number, a text, or nothing (null). */
export type Scalar = number | string | null;

export const QUALITY_GOOD = 0;
export const QUALITY_UNCERTAIN = 1;
export const QUALITY_BAD = 2;

export interface Value {
  /** Source time, UTC ms. */
  t: number;
  v: Scalar;
  /** 0 good, 1 uncertain, 2 bad. */
  q: number;
}

export type LiveEvent =
  /** `resumed`: series and values that follow are only those that came or changed since the last connection. */
  | { kind: "hello"; now: number; version: string; resumed: boolean }
  | { kind: "series"; series: Series[] }
  | { kind: "values"; id: number[]; t: number[]; v: Scalar[]; q: number[] }
  | { kind: "machines"; machines: Machine[] }
  | { kind: "sites"; sites: Site[] }
  | { kind: "alarms"; alarms: Alarm[] }
  | { kind: "agents"; agents: Agent[] }
  | { kind: "ping"; now: number };
