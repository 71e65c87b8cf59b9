import assert from "node:assert/strict";
import { test } from "node:test";
import type { BucketedSeries } from "../src/lib/api.ts";
import {
  addPresence,
  appendValue,
  bucketPoints,
  bucketWidth,
  drawnPoints,
  dropBefore,
  presence,
  silences,
  type Point,
  type Presence,
  type Span,
} from "../src/lib/trend.ts";

const S = 1000;

function buckets(signal: string, starts: number[], value = 1): BucketedSeries {
  const column = starts.map(() => value);
  return {
    asset: "a",
    signal,
    t: starts.map((s) => s * S),
    count: starts.map(() => 5),
    min: column,
    max: column,
    first: column,
    last: column,
  };
}

test("a peak inside of a bucket is drawn at its height", () => {
  const series = { ...buckets("x", [0]), first: [1], min: [0], max: [90], last: [2] };
  const points = bucketPoints(series, 60 * S);
  assert.deepEqual(points.map(([, v]) => v), [1, 0, 90, 2]);
  assert.ok(points.every(([t], row) => row === 0 || t > points[row - 1]![0]));
});

test("a bucket of bad values breaks the line, an empty one says nothing", () => {
  const series: BucketedSeries = {
    ...buckets("x", [0, 60]),
    count: [3, 0],
    first: [null, null],
    last: [null, null],
    min: [null, null],
    max: [null, null],
  };
  assert.deepEqual(bucketPoints(series, 60 * S), [[0, null]]);
});

test("one empty bucket among full ones is a silence", () => {
  const own = buckets("x", [0, 60, 120, 240, 300]);
  const spoken = presence([own], 60 * S);
  assert.deepEqual(spoken.spans, [
    [0, 180 * S],
    [240 * S, 360 * S],
  ]);
  assert.deepEqual(silences(spoken, 0, 360 * S), [[180 * S, 240 * S]]);
});

test("a value that seldom changes has no silence while its neighbours speak", () => {
  const seldom = buckets("set", [0, 300]);
  const lively = buckets("power", [0, 60, 120, 180, 240, 300]);
  assert.deepEqual(silences(presence([seldom, lively], 60 * S), 0, 360 * S), []);
  assert.deepEqual(silences(presence([seldom], 60 * S), 0, 360 * S), [], "alone, its pace is the usual one");
});

test("a machine that speaks every 25 s is not silent between two cycles", () => {
  const starts = Array.from({ length: 40 }, (_, row) => row * 26);
  assert.deepEqual(silences(presence([buckets("cycle", starts)], 2 * S), 0, 40 * 26 * S), [], "usual pauses");
  const cut = starts.filter((s) => s < 300 || s > 500);
  assert.equal(silences(presence([buckets("cycle", cut)], 2 * S), 0, 40 * 26 * S).length, 1);
});

test("no line crosses a silence, wherever it lies between two points", () => {
  const points: Point[] = [
    [0, 1],
    [10 * S, 2],
    [100 * S, 3],
  ];
  const silent: Span[] = [[12 * S, 95 * S]];
  const drawn = drawnPoints(points, silent, 100 * S, 10 * S);
  const broken = drawn.findIndex(([, v]) => v === null);
  assert.ok(broken > 0 && drawn[broken]![0] <= 13 * S);
  assert.deepEqual(drawn.at(-1), [100 * S, 3]);
});

test("an unchanged value is held and then jumps, and is held as far as the machine spoke", () => {
  const points: Point[] = [
    [0, 1],
    [100 * S, 5],
  ];
  const drawn = drawnPoints(points, [], 160 * S, 10 * S);
  assert.deepEqual(drawn, [
    [0, 1],
    [100 * S - 1, 1],
    [100 * S, 5],
    [160 * S - 1, 5],
  ]);
});

test("nothing is held over a bad value", () => {
  const points: Point[] = [
    [0, 1],
    [1 * S, null],
    [100 * S, 5],
  ];
  assert.deepEqual(drawnPoints(points, [], 100 * S, 10 * S), points);
});

test("live values go to the end only, and bad ones break the line", () => {
  const points: Point[] = [[10, 1]];
  appendValue(points, { t: 9, v: 7, q: 0 });
  appendValue(points, { t: 11, v: 2, q: 1 });
  appendValue(points, { t: 12, v: 3, q: 2 });
  appendValue(points, { t: 13, v: "text", q: 0 });
  assert.deepEqual(points, [
    [10, 1],
    [11, 2],
    [12, null],
    [13, null],
  ]);
});

test("the point before the window stays, so that the line enters from the left", () => {
  const points: Point[] = [
    [1, 1],
    [2, 2],
    [3, 3],
    [4, 4],
  ];
  dropBefore(points, 3);
  assert.deepEqual(points.map(([t]) => t), [2, 3, 4]);
});

test("presence bridges ordinary pauses and nothing longer", () => {
  const spoken: Presence = { spans: [], pauseMs: 10 * S };
  for (const t of [0, 5, 15, 26, 30, 2]) addPresence(spoken, t * S, t * S);
  assert.deepEqual(spoken.spans, [
    [0, 15 * S],
    [26 * S, 30 * S],
  ]);
});

test("the width of a bucket is what the service made of it", () => {
  assert.equal(bucketWidth([buckets("x", [0, 120, 180])], 5), 60 * S);
  assert.equal(bucketWidth([buckets("x", [0])], 5), 5);
});
