/** Everything that the service has told us, as plain data; what changed is noted for whoever draws it. */

import type { Agent, Alarm, LiveEvent, Machine, Series, Site, Value } from "./types.ts";

export interface Plant {
  sites: Map<string, Site>;
  machines: Map<string, Machine>;
  /** Those that last, by id. */
  alarms: Map<string, Alarm>;
  agents: Map<string, Agent>;
  /** By the service's number, valid for one connection and those that resume it. */
  seriesById: Map<number, Series>;
  /** By asset; the lists are replaced, never changed, so that a reader sees from their identity what is new. */
  seriesByAsset: Map<string, readonly Series[]>;
  /** By `seriesKey`. */
  values: Map<string, Value>;
  /** Whether the whole snapshot has arrived. */
  complete: boolean;
}

/** Keys that changed since they were last drawn; a set, so that a value that changes twice is drawn once. */
export interface Changes {
  sites: Set<string>;
  machines: Set<string>;
  alarms: Set<string>;
  agents: Set<string>;
  /** Assets that got new series. */
  assets: Set<string>;
  /** Series keys. */
  values: Set<string>;
}

export function emptyPlant(): Plant {
  return {
    sites: new Map(),
    machines: new Map(),
    alarms: new Map(),
    agents: new Map(),
    seriesById: new Map(),
    seriesByAsset: new Map(),
    values: new Map(),
    complete: false,
  };
}

/** Return a plant that knows the series and values of another, for a snapshot that tells only what is new of these. */
export function resumedPlant(before: Plant): Plant {
  return {
    ...emptyPlant(),
    seriesById: new Map(before.seriesById),
    seriesByAsset: new Map(before.seriesByAsset),
    values: new Map(before.values),
  };
}

export function noChanges(): Changes {
  return {
    sites: new Set(),
    machines: new Set(),
    alarms: new Set(),
    agents: new Set(),
    assets: new Set(),
    values: new Set(),
  };
}

/** Return the key of a series that outlives connections (the numeric id does not). */
export function seriesKey(asset: string, signal: string): string {
  return `${asset}:${signal}`;
}

/**
 * Take one event into the plant and note what changed.
 *
 * A `hello` is not for this function: it begins a new plant. The snapshot is complete with its last event
 * (`agents`), or with the first ping where a service has no agents to tell of.
 */
export function applyEvent(plant: Plant, event: LiveEvent, changes: Changes): void {
  switch (event.kind) {
    case "series":
      for (const series of event.series) addSeries(plant, series, changes);
      break;
    case "values":
      for (let row = 0; row < event.id.length; row++) {
        const series = plant.seriesById.get(event.id[row]!);
        if (series === undefined) continue;
        const key = seriesKey(series.asset, series.signal);
        plant.values.set(key, { t: event.t[row]!, v: event.v[row]!, q: event.q[row]! });
        changes.values.add(key);
      }
      break;
    case "machines":
      put(plant.machines, event.machines, changes.machines, (machine) => machine.asset);
      break;
    case "sites":
      put(plant.sites, event.sites, changes.sites, (site) => site.asset);
      break;
    case "alarms":
      for (const alarm of event.alarms) {
        if (alarm.until === null) plant.alarms.set(alarm.id, alarm);
        else plant.alarms.delete(alarm.id);
        changes.alarms.add(alarm.id);
      }
      break;
    case "agents":
      put(plant.agents, event.agents, changes.agents, (agent) => agent.id);
      plant.complete = true;
      break;
    case "ping":
      plant.complete = true;
      break;
    case "hello":
      break;
  }
}

function addSeries(plant: Plant, series: Series, changes: Changes): void {
  plant.seriesById.set(series.id, series);
  const others = plant.seriesByAsset.get(series.asset) ?? [];
  plant.seriesByAsset.set(series.asset, [...others.filter((one) => one.signal !== series.signal), series]);
  changes.assets.add(series.asset);
}

function put<T>(into: Map<string, T>, entries: T[], changed: Set<string>, keyOf: (entry: T) => string): void {
  for (const entry of entries) {
    into.set(keyOf(entry), entry);
    changed.add(keyOf(entry));
  }
}

/** Return everything that differs in presence between two plants or may differ in content: for a new snapshot. */
export function changesBetween(before: Plant, after: Plant): Changes {
  return {
    sites: union(before.sites, after.sites),
    machines: union(before.machines, after.machines),
    alarms: union(before.alarms, after.alarms),
    agents: union(before.agents, after.agents),
    assets: union(before.seriesByAsset, after.seriesByAsset),
    values: union(before.values, after.values),
  };
}

function union(one: Map<string, unknown>, other: Map<string, unknown>): Set<string> {
  return new Set([...one.keys(), ...other.keys()]);
}
