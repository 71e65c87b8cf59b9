/** Units as UCUM spells them, and as people read them. */

/** What the vocabulary (shopfloor/signal.py) says of signals that every part knows, where nobody declared a unit. */
const OF_VOCABULARY: ReadonlyMap<string, string> = new Map([
  ["cycle.time", "s"],
  ["job.expected_cycle_time", "s"],
  ["energy.active_power", "kW"],
  ["energy.active_energy", "kW.h"],
]);

const WRITTEN: ReadonlyMap<string, string> = new Map([
  ["1", ""],
  ["Cel", "°C"],
  ["deg", "°"],
  ["kW.h", "kWh"],
  ["W.h", "Wh"],
  ["cm3", "cm³"],
  ["cm3/s", "cm³/s"],
  ["m3", "m³"],
  ["m3/h", "m³/h"],
  ["L/min", "l/min"],
  ["/min", "1/min"],
]);

export function unitOf(signal: string, declared: string): string {
  return declared === "" ? (OF_VOCABULARY.get(signal) ?? "") : declared;
}

/** Write a unit for people; an annotation alone, such as `{count}`, is no unit. */
export function formatUnit(unit: string): string {
  return WRITTEN.get(unit) ?? unit.replace(/^\{[^}]*\}$/, "").replaceAll(/[{}]/g, "");
}
