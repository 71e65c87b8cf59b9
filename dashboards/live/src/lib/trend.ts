/** What a trend draws: points, the silences between them, and nothing invented. */

import type { BucketedSeries } from "./api.ts";
import type { Value } from "./types.ts";
import { QUALITY_BAD } from "./types.ts";

/** Time (UTC ms) and value; null breaks the line. */
export type Point = [t: number, v: number | null];
export type Span = [fromMs: number, toMs: number];

/** A shorter silence is ordinary: only the series on the chart are asked, and they may not have changed for a while. */
export const SILENCE_AT_LEAST_MS = 30_000;

/** When a machine spoke, as far as we know. */
export interface Presence {
  /** Merged, in order. */
  spans: Span[];
  /** Pauses up to this are ordinary for the machine, ms. */
  pauseMs: number;
}

/**
 * Return the polyline that a bucketed series makes.
 *
 * Each bucket gives its first, lowest, highest and last value, so that a peak stays a peak however far one looks
 * back; the order of the two in the middle is not known and not visible at this width.
 */
export function bucketPoints(series: BucketedSeries, everyMs: number): Point[] {
  const points: Point[] = [];
  for (let row = 0; row < series.t.length; row++) {
    const t = series.t[row]!;
    const first = series.first[row];
    const last = series.last[row];
    const low = series.min[row];
    const high = series.max[row];
    if (typeof first !== "number" || typeof last !== "number") {
      if ((series.count[row] ?? 0) > 0) points.push([t, null]);
      continue;
    }
    points.push([t, first]);
    if (series.count[row] === 1) continue;
    const rising = last >= first;
    const middle = rising ? [low, high] : [high, low];
    middle.forEach((value, at) => {
      if (typeof value === "number") points.push([t + ((at + 1) * everyMs) / 3, value]);
    });
    points.push([t + everyMs - 1, last]);
  }
  return points;
}

/** Return the width of a bucket: the smallest step between bucket starts, `fallbackMs` where there is none. */
export function bucketWidth(all: readonly BucketedSeries[], fallbackMs: number): number {
  let width = Infinity;
  for (const { t } of all) for (let row = 1; row < t.length; row++) width = Math.min(width, t[row]! - t[row - 1]!);
  return Number.isFinite(width) && width > 0 ? width : fallbackMs;
}

/**
 * Return when the machine is known to have spoken.
 *
 * All series of the machine that were read count together: a value that did not change for an hour is not a gap
 * while its neighbours went on reporting. Pauses that are ordinary for the machine are bridged: three times its
 * usual pause, at least half a minute: machines that report by exception are quiet for that long.
 */
export function presence(all: readonly BucketedSeries[], everyMs: number): Presence {
  const starts = new Set<number>();
  for (const series of all) {
    series.t.forEach((t, row) => {
      if ((series.count[row] ?? 0) > 0) starts.add(t);
    });
  }
  const times = [...starts].sort((a, b) => a - b);
  const pauseMs = Math.max(SILENCE_AT_LEAST_MS, 3 * (median(steps(times)) - everyMs));
  const spoken: Presence = { spans: [], pauseMs };
  for (const t of times) addPresence(spoken, t, t + everyMs);
  return spoken;
}

/** Add a span in which the machine spoke; one that begins before the last does changes nothing. */
export function addPresence(spoken: Presence, fromMs: number, toMs: number): void {
  const last = spoken.spans.at(-1);
  if (last !== undefined && fromMs < last[0]) return;
  if (last !== undefined && fromMs - last[1] <= spoken.pauseMs) last[1] = Math.max(last[1], toMs);
  else spoken.spans.push([fromMs, toMs]);
}

/** Return the spans between `fromMs` and `toMs` in which the machine was silent for longer than it usually is. */
export function silences({ spans, pauseMs }: Presence, fromMs: number, toMs: number): Span[] {
  const found: Span[] = [];
  let silentFrom = fromMs;
  for (const [begin, end] of spans) {
    if (end < fromMs || begin > toMs) continue;
    if (begin - silentFrom > pauseMs) found.push([silentFrom, begin]);
    silentFrom = Math.max(silentFrom, end);
  }
  if (toMs - silentFrom > pauseMs) found.push([silentFrom, toMs]);
  return found;
}

/**
 * Return the points as they are to be drawn.
 *
 * The line is broken where a silence lies between two points. Where the machine spoke but this value did not change
 * for longer than `holdMs`, the value is held and then jumps: a slope between the two would be invented. The last
 * value is held as far as the machine is known to have spoken.
 */
export function drawnPoints(points: readonly Point[], silent: readonly Span[], untilMs: number, holdMs: number): Point[] {
  const drawn: Point[] = [];
  let at = 0;
  for (let row = 0; row < points.length; row++) {
    const [t, v] = points[row]!;
    drawn.push([t, v]);
    const next = points[row + 1];
    const nextT = next?.[0] ?? untilMs;
    while (at < silent.length && silent[at]![1] <= t) at++;
    const gap = silent[at];
    const gapFrom = gap !== undefined && gap[0] < nextT ? Math.max(gap[0], t) : null;
    if (v === null) continue;
    if (gapFrom !== null) {
      if (gapFrom - t > holdMs) drawn.push([gapFrom, v]);
      drawn.push([gapFrom + 1, null]);
    } else if (nextT - t > holdMs) {
      drawn.push([nextT - 1, v]);
    }
  }
  return drawn;
}

/** Append a live value; one that is not later than the last is not for the end of a line. */
export function appendValue(points: Point[], value: Value): void {
  const last = points.at(-1);
  if (last !== undefined && value.t <= last[0]) return;
  const usable = typeof value.v === "number" && value.q !== QUALITY_BAD;
  points.push([value.t, usable ? (value.v as number) : null]);
}

/** Drop what lies before `fromMs`, except for the one point that the line comes from. */
export function dropBefore(points: Point[], fromMs: number): void {
  let first = 0;
  while (first + 1 < points.length && points[first + 1]![0] < fromMs) first++;
  points.splice(0, first);
}

/** Return the lowest and the highest value, null where there is none. */
export function extremes(points: readonly Point[]): { low: number | null; high: number | null } {
  let low: number | null = null;
  let high: number | null = null;
  for (const [, v] of points) {
    if (v === null) continue;
    if (low === null || v < low) low = v;
    if (high === null || v > high) high = v;
  }
  return { low, high };
}

function steps(times: readonly number[]): number[] {
  return times.slice(1).map((t, row) => t - times[row]!);
}

function median(values: number[]): number {
  if (values.length === 0) return 0;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}
