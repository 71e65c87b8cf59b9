import assert from "node:assert/strict";
import { test } from "node:test";
import {
  compareGroups,
  formatAge,
  formatClock,
  formatCount,
  formatDuration,
  formatFixed,
  formatNumber,
  formatValue,
  fullLabel,
  signalLabel,
} from "../src/lib/format.ts";
import { formatUnit, unitOf } from "../src/lib/units.ts";

const MIN = 60_000;

test("durations name two units at most", () => {
  const cases: [number, string][] = [
    [-5, "0 sec"],
    [59_999, "59 sec"],
    [12 * MIN, "12 min"],
    [190 * MIN, "3 hr 10 min"],
    [49 * 60 * MIN, "2 days 1 hr"],
  ];
  for (const [ms, text] of cases) assert.equal(formatDuration(ms), text);
});

test("fresh data is of now, data without a time is of never", () => {
  assert.equal(formatAge(1000, 3500), "now");
  assert.equal(formatAge(9000, 3500), "now", "a clock a little ahead");
  assert.equal(formatAge(0, 12 * MIN), "12 min ago");
  assert.equal(formatAge(null, 5), "never");
});

test("numbers have the decimals that their size deserves", () => {
  const cases: [number, string][] = [
    [1_204_511, "1,204,511"],
    [1042.6, "1,043"],
    [210.37, "210.4"],
    [24.826, "24.83"],
    [0.0123, "0.012"],
    [0.00001234, "1.234E-5"],
    [-3.5, "-3.50"],
    [0, "0"],
  ];
  for (const [value, text] of cases) assert.equal(formatNumber(value), text);
  assert.equal(formatNumber(230, true), "230.0", "a quantity does not jump when it is whole");
  assert.equal(formatCount(null), "–");
  assert.equal(formatFixed(24, 1), "24.0");
});

test("enumerations are words, unknown members stay numbers", () => {
  assert.equal(formatValue("status.mode", 4), "setup");
  assert.equal(formatValue("status.mode", 17), "17");
  assert.equal(formatValue("status.mode", 1.5), "1.50");
  assert.equal(formatValue("job.name", "<b>x</b>"), "<b>x</b>");
  assert.equal(formatValue("cycle.time", null), "no value");
});

test("units are written as people write them", () => {
  assert.deepEqual(["Cel", "kW.h", "1", "{parts}", "{rev}/min", "bar", ""].map(formatUnit), ["°C", "kWh", "", "", "rev/min", "bar", ""]);
  assert.equal(unitOf("energy.active_power", ""), "kW", "the vocabulary says so");
  assert.equal(unitOf("energy.active_power", "W"), "W");
});

test("a site's time is its own; a zone that nobody knows is UTC and says so", () => {
  const t = Date.UTC(2026, 0, 5, 17, 4);
  assert.equal(formatClock(t, "Asia/Hong_Kong"), "01:04");
  assert.equal(formatClock(t, "Asia/Ho_Chi_Minh"), "00:04");
  assert.equal(formatClock(t, "Mars/Olympus"), "17:04 UTC");
});

test("signals are named for people", () => {
  assert.equal(signalLabel("barrel.zone_1.temperature"), "Zone 1 temperature");
  assert.equal(fullLabel("barrel.zone_1.temperature"), "Barrel zone 1 temperature");
  assert.equal(fullLabel("energy.active_power"), "Active power");
});

test("groups have their order: status first, energy last", () => {
  assert.deepEqual(["energy", "tcu", "barrel", "status"].sort(compareGroups), ["status", "barrel", "tcu", "energy"]);
});
