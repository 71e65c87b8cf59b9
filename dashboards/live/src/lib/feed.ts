/** The data of one open trend: history first, then the live values at its end. */

import { bucketedSamples } from "./api.ts";
import {
  addPresence,
  appendValue,
  bucketPoints,
  bucketWidth,
  drawnPoints,
  dropBefore,
  presence,
  silences,
  SILENCE_AT_LEAST_MS,
  type Point,
  type Presence,
  type Span,
} from "./trend.ts";
import type { Value } from "./types.ts";

/** Buckets that history is read in; each draws up to four points. */
const BUCKETS = 300;
/** Raw points at the end of all lines together before history is read anew, in its buckets. */
const MAX_LIVE_POINTS = 4000;
/** Where the live points can't be replaced because history fails, the oldest go. */
const MAX_POINTS = 20_000;
/** A machine's clock that is further off than this says nothing about where the trend's right edge is. */
const MAX_SKEW_MS = 3_600_000;

export interface FeedOptions {
  asset: string;
  signals: readonly string[];
  companions: readonly string[];
  spanMs: number;
  /** The service's time, ms. */
  now: () => number;
  /** History has come, or has failed (the argument). */
  loaded: (error: unknown) => void;
}

export interface Feed {
  /** A value of the asset, of whatever signal: each of them shows that the machine speaks. */
  take(signal: string, value: Value): void;
  /** The machine has contact now, though it may have nothing new to say. */
  contact(): void;
  /** What to draw now. */
  view(): { fromMs: number; toMs: number; silent: Span[]; points: Map<string, Point[]> };
  close(): void;
}

export function openFeed(options: FeedOptions): Feed {
  const { asset, signals, spanMs, now } = options;
  const control = new AbortController();
  let lines = new Map<string, Point[]>(signals.map((signal) => [signal, []]));
  let spoken: Presence = { spans: [], pauseMs: SILENCE_AT_LEAST_MS };
  let waiting: { signal: string; value: Value }[] | null = null;
  let livePoints = 0;
  /** Machine's clock minus the service's, as its values show it. */
  let skewMs = 0;
  let newest = -Infinity;

  const machineNow = () => now() + skewMs;
  const holdMs = () => Math.max(10_000, (3 * spanMs) / BUCKETS);

  async function load(): Promise<void> {
    // What comes while history is read is kept and goes behind it.
    waiting = [];
    livePoints = 0;
    const toMs = machineNow() + 1000;
    const fromMs = toMs - spanMs;
    let error: unknown = null;
    try {
      const names = [...signals, ...options.companions];
      const all = await bucketedSamples(asset, names, fromMs, toMs, BUCKETS, control.signal);
      const own = all.filter((series) => series.asset === asset);
      const everyMs = bucketWidth(own, spanMs / BUCKETS);
      const history = new Map<string, Point[]>(signals.map((signal) => [signal, []]));
      for (const series of own) if (history.has(series.signal)) history.set(series.signal, bucketPoints(series, everyMs));
      // The last bucket is not over yet: nothing in it may lie behind the values that follow.
      for (const points of history.values()) for (const point of points) point[0] = Math.min(point[0], toMs);
      const before = spoken;
      lines = history;
      spoken = presence(own, everyMs);
      // History may be behind what this page itself has seen.
      for (const [from, to] of before.spans) {
        const known = spoken.spans.at(-1)?.[1] ?? from;
        if (to > known) addPresence(spoken, Math.max(from, known), to);
      }
    } catch (problem) {
      error = problem;
    }
    const late = waiting;
    waiting = null;
    if (control.signal.aborted) return;
    for (const { signal, value } of late) append(signal, value);
    options.loaded(error);
  }

  function append(signal: string, value: Value): void {
    addPresence(spoken, value.t, value.t);
    const points = lines.get(signal);
    if (points === undefined) return;
    learnSkew(value.t);
    appendValue(points, value);
    if (points.length > MAX_POINTS) points.splice(0, points.length - MAX_POINTS);
    livePoints += 1;
    if (livePoints > MAX_LIVE_POINTS && waiting === null) void load();
  }

  /** Only a value newer than all before it tells the clock: others are of slower signals. */
  function learnSkew(t: number): void {
    if (t <= newest) return;
    newest = t;
    const skew = t - now();
    skewMs = Math.abs(skew) > 2000 && Math.abs(skew) < MAX_SKEW_MS ? skew : 0;
  }

  void load();
  return {
    take(signal, value) {
      if (waiting !== null) waiting.push({ signal, value });
      else append(signal, value);
    },
    contact() {
      addPresence(spoken, machineNow(), machineNow());
    },
    view() {
      const toMs = machineNow();
      const fromMs = toMs - spanMs;
      while (spoken.spans.length > 1 && spoken.spans[0]![1] < fromMs) spoken.spans.shift();
      const silent = silences(spoken, fromMs, toMs);
      const until = Math.min(toMs, spoken.spans.at(-1)?.[1] ?? fromMs);
      const points = new Map<string, Point[]>();
      for (const [signal, line] of lines) {
        dropBefore(line, fromMs);
        points.set(signal, drawnPoints(line, silent, until, holdMs()));
      }
      return { fromMs, toMs, silent, points };
    },
    close() {
      control.abort();
    },
  };
}
