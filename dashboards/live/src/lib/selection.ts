/** Which signals a trend shows before anybody chose some, and which ones tell that the machine speaks. */

import type { Series, Value } from "./types.ts";

export const MAX_LINES = 6;
export const SPANS_S: readonly number[] = [600, 3600, 8 * 3600, 24 * 3600];

/** Series read beside the chosen ones, as evidence of contact. */
const COMPANIONS = 4;

/** Power and the first temperatures, as far as the machine has them. */
export function defaultSignals(series: readonly Series[]): string[] {
  const signals = series.map((one) => one.signal);
  const power = signals.filter((signal) => signal === "energy.active_power");
  const temperatures = signals.filter((signal) => /temperature$/.test(signal) && !/set|target/.test(signal)).slice(0, 2);
  const chosen = [...temperatures, ...power];
  if (chosen.length > 0) return chosen;
  return series.filter((one) => one.unit !== "").slice(0, 2).map((one) => one.signal);
}

/** Return the signals whose values are newest: those that change most, and so show when the machine spoke. */
export function companions(
  series: readonly Series[],
  chosen: readonly string[],
  valueOf: (signal: string) => Value | undefined,
): string[] {
  return series
    .filter((one) => !chosen.includes(one.signal))
    .map((one) => ({ signal: one.signal, t: valueOf(one.signal)?.t ?? -Infinity }))
    .sort((a, b) => b.t - a.t)
    .slice(0, COMPANIONS)
    .map((one) => one.signal);
}

/**
 * Return for each chosen signal which dashes its line has: lines of one unit share a panel, and only there dashes
 * have to tell them apart beside their colours.
 */
export function dashesOf(chosen: readonly string[], unitOf: (signal: string) => string): number[] {
  const used = new Map<string, number>();
  return chosen.map((signal) => {
    const panel = unitOf(signal) || signal;
    const dash = used.get(panel) ?? 0;
    used.set(panel, dash + 1);
    return dash;
  });
}
