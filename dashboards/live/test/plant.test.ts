import assert from "node:assert/strict";
import { test } from "node:test";
import { applyEvent, changesBetween, emptyPlant, noChanges, resumedPlant, seriesKey } from "../src/lib/plant.ts";
import type { LiveEvent } from "../src/lib/types.ts";

const series = (id: number, signal: string): LiveEvent => ({
  kind: "series",
  series: [{ id, asset: "a/b/c/d/e", signal, unit: "kW" }],
});
const alarm = (id: string, until: number | null = null, message = ""): LiveEvent => ({
  kind: "alarms",
  alarms: [
    { id, kind: "gap", subject: "s", asset: "a/b", message, since: 1, until, acknowledged_at: null, acknowledged_by: "" },
  ],
});
const values = (id: number, v: number, t = 1): LiveEvent => ({ kind: "values", id: [id], t: [t], v: [v], q: [0] });

test("a value that changes twice is noted once and is the newer one", () => {
  const plant = emptyPlant();
  const changes = noChanges();
  for (const event of [series(4, "power"), values(4, 1), values(4, 2)]) applyEvent(plant, event, changes);
  const key = seriesKey("a/b/c/d/e", "power");
  assert.deepEqual([...changes.values], [key]);
  assert.equal(plant.values.get(key)?.v, 2);
});

test("a value of a series that nobody announced is left out", () => {
  const plant = emptyPlant();
  applyEvent(plant, values(9, 1), noChanges());
  assert.equal(plant.values.size, 0);
});

test("the lists of series are replaced, and a series that comes again is not there twice", () => {
  const plant = emptyPlant();
  applyEvent(plant, series(1, "power"), noChanges());
  const before = plant.seriesByAsset.get("a/b/c/d/e");
  applyEvent(plant, series(2, "heat"), noChanges());
  applyEvent(plant, series(3, "power"), noChanges());
  const after = plant.seriesByAsset.get("a/b/c/d/e");
  assert.notEqual(after, before);
  assert.deepEqual(after?.map((one) => [one.id, one.signal]), [
    [2, "heat"],
    [3, "power"],
  ]);
});

test("the snapshot is complete with the agents, or with a ping where there are none", () => {
  for (const last of [{ kind: "agents", agents: [] }, { kind: "ping", now: 1 }] as LiveEvent[]) {
    const plant = emptyPlant();
    applyEvent(plant, { kind: "sites", sites: [] }, noChanges());
    assert.equal(plant.complete, false);
    applyEvent(plant, last, noChanges());
    assert.equal(plant.complete, true);
  }
});

test("what a new snapshot no longer has counts as changed", () => {
  const before = emptyPlant();
  applyEvent(before, series(1, "power"), noChanges());
  applyEvent(before, values(1, 5), noChanges());
  const changes = changesBetween(before, emptyPlant());
  assert.deepEqual([...changes.values], [seriesKey("a/b/c/d/e", "power")]);
  assert.deepEqual([...changes.assets], ["a/b/c/d/e"]);
});

test("a resumed plant knows series and values, may change them alone, and waits for the rest", () => {
  const before = emptyPlant();
  for (const event of [series(4, "power"), values(4, 1)]) applyEvent(before, event, noChanges());
  before.complete = true;
  const plant = resumedPlant(before);
  assert.equal(plant.complete, false);
  applyEvent(plant, values(4, 2), noChanges());
  applyEvent(plant, series(5, "heat"), noChanges());
  assert.equal(plant.values.get(seriesKey("a/b/c/d/e", "power"))?.v, 2);
  assert.equal(before.values.get(seriesKey("a/b/c/d/e", "power"))?.v, 1);
  assert.equal(before.seriesByAsset.get("a/b/c/d/e")?.length, 1);
});

test("an alarm stays until it is over, and its newest words count", () => {
  const plant = emptyPlant();
  for (const event of [alarm("x"), alarm("y"), alarm("x", null, "worse")]) applyEvent(plant, event, noChanges());
  assert.equal(plant.alarms.get("x")?.message, "worse");
  const changes = noChanges();
  applyEvent(plant, alarm("x", 7), changes);
  assert.deepEqual([...plant.alarms.keys()], ["y"]);
  assert.deepEqual([...changes.alarms], ["x"]);
});

test("an alarm that ended while the connection was lost is gone after it is resumed", () => {
  const before = emptyPlant();
  for (const event of [alarm("x"), alarm("y")]) applyEvent(before, event, noChanges());
  const after = resumedPlant(before);
  applyEvent(after, alarm("y"), noChanges());
  assert.deepEqual([...after.alarms.keys()], ["y"]);
  assert.ok(changesBetween(before, after).alarms.has("x"));
});
