/** From the text of one server-sent event to a checked LiveEvent. */

import type { Agent, AgentSource, Alarm, LiveEvent, Machine, MachineState, Scalar, Series, Site } from "./types.ts";
import { unitOf } from "./units.ts";

const STATES: ReadonlySet<string> = new Set<MachineState>([
  "running",
  "idle",
  "setup",
  "down_unplanned",
  "down_planned",
  "off",
  "unknown",
]);

type Json = Record<string, unknown>;

/**
 * Return the event, or null where the name is unknown or the data is not what the contract says.
 *
 * A single malformed entry is left out and does not cost the others; the page shows what it can.
 */
export function decodeEvent(name: string, text: string): LiveEvent | null {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isObject(data)) return null;
  switch (name) {
    case "hello":
      return isNumber(data.now)
        ? { kind: "hello", now: data.now, version: str(data.version), resumed: data.resumed === true }
        : null;
    case "ping":
      return isNumber(data.now) ? { kind: "ping", now: data.now } : null;
    case "series":
      return decodeSeries(data);
    case "values":
      return decodeValues(data);
    case "machines":
      return listOf(data.machines, toMachine, (machines) => ({ kind: "machines", machines }));
    case "sites":
      return listOf(data.sites, toSite, (sites) => ({ kind: "sites", sites }));
    case "alarms":
      return listOf(data.alarms, toAlarm, (alarms) => ({ kind: "alarms", alarms }));
    case "agents":
      return listOf(data.agents, toAgent, (agents) => ({ kind: "agents", agents }));
    default:
      return null;
  }
}

function decodeSeries(data: Json): LiveEvent | null {
  const { id, asset, signal, unit } = data;
  if (!Array.isArray(id) || !Array.isArray(asset) || !Array.isArray(signal) || !Array.isArray(unit)) return null;
  const series: Series[] = [];
  for (let row = 0; row < id.length; row++) {
    const number: unknown = id[row];
    const path: unknown = asset[row];
    const name: unknown = signal[row];
    if (isNumber(number) && typeof path === "string" && typeof name === "string") {
      series.push({ id: number, asset: path, signal: name, unit: unitOf(name, str(unit[row])) });
    }
  }
  return { kind: "series", series };
}

function decodeValues(data: Json): LiveEvent | null {
  const { id, t, v, q } = data;
  if (!Array.isArray(id) || !Array.isArray(t) || !Array.isArray(v) || !Array.isArray(q)) return null;
  if (t.length !== id.length || v.length !== id.length || q.length !== id.length) return null;
  if (!id.every(isNumber) || !t.every(isNumber) || !q.every(isNumber) || !v.every(isScalar)) return null;
  return { kind: "values", id, t, v, q };
}

function listOf<T>(data: unknown, take: (entry: Json) => T | null, make: (entries: T[]) => LiveEvent): LiveEvent | null {
  if (!Array.isArray(data)) return null;
  const entries: T[] = [];
  for (const entry of data) {
    const taken = isObject(entry) ? take(entry) : null;
    if (taken !== null) entries.push(taken);
  }
  return make(entries);
}

function toSite(data: Json): Site | null {
  if (typeof data.asset !== "string") return null;
  const machines = isObject(data.machines) ? data.machines : {};
  return {
    asset: data.asset,
    name: str(data.name) || data.asset,
    time_zone: str(data.time_zone),
    machines: {
      running: num(machines.running) ?? 0,
      stopped: num(machines.stopped) ?? 0,
      no_contact: num(machines.no_contact) ?? 0,
    },
    parts_today: num(data.parts_today),
    power_kw: num(data.power_kw),
    newest: num(data.newest),
  };
}

function toMachine(data: Json): Machine | null {
  if (typeof data.asset !== "string") return null;
  const state = str(data.state);
  return {
    asset: data.asset,
    name: str(data.name) || data.asset,
    site: str(data.site) || data.asset.split("/").slice(0, 2).join("/"),
    state: STATES.has(state) ? (state as MachineState) : "unknown",
    since: num(data.since),
    contact: data.contact === true,
    served_by: Array.isArray(data.served_by) ? data.served_by.filter((name) => typeof name === "string") : [],
    reason: str(data.reason),
    job: str(data.job),
    parts_today: num(data.parts_today),
    power_kw: num(data.power_kw),
    cycle_s: num(data.cycle_s),
    newest: num(data.newest),
  };
}

/** Return one alarm, or null where the data is not what the contract says. */
export function toAlarm(data: Json): Alarm | null {
  if (typeof data.id !== "string" || typeof data.kind !== "string" || !isNumber(data.since)) return null;
  return {
    id: data.id,
    kind: data.kind,
    subject: str(data.subject),
    asset: str(data.asset),
    message: str(data.message),
    since: data.since,
    until: num(data.until),
    acknowledged_at: num(data.acknowledged_at),
    acknowledged_by: str(data.acknowledged_by),
  };
}

function toAgent(data: Json): Agent | null {
  if (typeof data.id !== "string") return null;
  const sources = Array.isArray(data.sources) ? data.sources : [];
  return {
    id: data.id,
    asset: str(data.asset),
    contact: data.contact === true,
    last_contact: num(data.last_contact),
    sources: sources.filter(isObject).map(toSource),
  };
}

function toSource(data: Json): AgentSource {
  return { name: str(data.name), protocol: str(data.protocol), state: str(data.state), message: str(data.message) };
}

function isObject(data: unknown): data is Json {
  return typeof data === "object" && data !== null && !Array.isArray(data);
}

function isNumber(data: unknown): data is number {
  return typeof data === "number" && Number.isFinite(data);
}

function isScalar(data: unknown): data is Scalar {
  return data === null || typeof data === "number" || typeof data === "string";
}

function str(data: unknown): string {
  return typeof data === "string" ? data : "";
}

function num(data: unknown): number | null {
  return isNumber(data) ? data : null;
}
