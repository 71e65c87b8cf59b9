import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeEvent } from "../src/lib/events.ts";

test("what is not the contract's shape is no event", () => {
  const bad: [string, string][] = [
    ["values", "{"],
    ["values", "[]"],
    ["values", '{"id":[1],"t":[1],"v":[1]}'],
    ["values", '{"id":[1],"t":[1,2],"v":[1],"q":[0]}'],
    ["values", '{"id":[1],"t":[1],"v":[{"html":1}],"q":[0]}'],
    ["values", '{"id":["1"],"t":[1],"v":[1],"q":[0]}'],
    ["hello", '{"now":"soon"}'],
    ["machines", '{"machines":{}}'],
    ["alarms", '{"alarms":{"id":"a"}}'],
    ["toString", "{}"],
  ];
  for (const [name, text] of bad) assert.equal(decodeEvent(name, text), null, `${name} ${text}`);
});

test("one malformed entry does not cost the others", () => {
  const event = decodeEvent("machines", '{"machines":[null,{"asset":5},{"asset":"a/b/c/d/e","state":"exploded","served_by":"gateway"}]}');
  assert.ok(event?.kind === "machines");
  assert.equal(event.machines.length, 1);
  const [machine] = event.machines;
  assert.equal(machine?.state, "unknown");
  assert.equal(machine?.site, "a/b");
  assert.equal(machine?.contact, false);
  assert.equal(machine?.power_kw, null);
  assert.deepEqual(machine?.served_by, []);
});

test("a machine names who speaks for it, by texts alone", () => {
  const event = decodeEvent("machines", '{"machines":[{"asset":"a/b/c","served_by":["gw/imm",5,null,"meter"]}]}');
  assert.ok(event?.kind === "machines");
  assert.deepEqual(event.machines[0]?.served_by, ["gw/imm", "meter"]);
});

test("an alarm needs its id, its kind and when it began", () => {
  const whole = { id: "a", kind: "gap", subject: "s-1", asset: "acme/hk01", message: "2 never came", since: 5 };
  const later = { until: 9, acknowledged_at: 8, acknowledged_by: "anna" };
  const broken = [null, { ...whole, id: 5 }, { ...whole, kind: null }, { ...whole, since: "today" }];
  const event = decodeEvent("alarms", JSON.stringify({ alarms: [...broken, whole, { ...whole, ...later }] }));
  assert.deepEqual(event, {
    kind: "alarms",
    alarms: [
      { ...whole, until: null, acknowledged_at: null, acknowledged_by: "" },
      { ...whole, ...later },
    ],
  });
});

test("values keep numbers, texts and nulls", () => {
  const event = decodeEvent("values", '{"id":[1,2,3],"t":[5,5,5],"v":[1.5,"x",null],"q":[0,1,2]}');
  assert.deepEqual(event, { kind: "values", id: [1, 2, 3], t: [5, 5, 5], v: [1.5, "x", null], q: [0, 1, 2] });
});
