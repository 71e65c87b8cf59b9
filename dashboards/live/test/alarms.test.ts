import assert from "node:assert/strict";
import { test } from "node:test";
import { alarmLook, alarmsAt, alarmsElsewhere, alarmsFor } from "../src/lib/alarms.ts";
import { acknowledgeAlarm } from "../src/lib/api.ts";
import { alarmLabel } from "../src/lib/format.ts";
import { mayOperate } from "../src/lib/session.ts";
import type { Alarm } from "../src/lib/types.ts";

const alarm = (id: string, asset: string, more: Partial<Alarm> = {}): Alarm => ({
  id,
  kind: "gap",
  subject: "s",
  asset,
  message: "",
  since: 1,
  until: null,
  acknowledged_at: null,
  acknowledged_by: "",
  ...more,
});
const ids = (alarms: Alarm[]) => alarms.map((one) => one.id);

test("an alarm is shown at its site, or above all of them", () => {
  const alarms = [alarm("service", ""), alarm("group", "acme"), alarm("site", "acme/hk01"), alarm("line", "acme/hk01/a/b"), alarm("other", "acme/hk011")];
  assert.deepEqual(ids(alarmsAt(alarms, "acme/hk01")), ["site", "line"]);
  assert.deepEqual(ids(alarmsFor(alarms, "acme/hk01")), ["service", "group", "site", "line"]);
  assert.deepEqual(ids(alarmsElsewhere(alarms, ["acme/hk01"])), ["service", "group", "other"]);
});

test("the most pressing come first, then the oldest; acknowledged ones are last and without colour", () => {
  const seen = alarm("seen", "a/b", { since: 0, acknowledged_at: 5 });
  const mild = alarm("mild", "a/b", { since: 1, kind: "clock_offset" });
  assert.equal(alarmLook(seen), "rest");
  assert.equal(alarmLook(mild), "setup");
  const all = [seen, mild, alarm("young", "a/b", { since: 9 }), alarm("old", "a/b", { since: 2 })];
  assert.deepEqual(ids(alarmsAt(all, "a/b")), ["old", "young", "mild", "seen"]);
});

test("a kind of a newer service is pressing, and its name is read as words", () => {
  assert.equal(alarmLook(alarm("x", "", { kind: "pump_dry" })), "down");
  assert.equal(alarmLabel("pump_dry"), "Pump dry");
  assert.equal(alarmLabel("agent_silent"), "Agent silent:");
});

test("an acknowledgement carries the page's own header and returns the alarm, or null", async () => {
  const seen: [string, RequestInit][] = [];
  const answer = (body: string, status = 200) =>
    acknowledgeAlarm("a/1", (url, init) => {
      seen.push([url, init]);
      return Promise.resolve(new Response(body, { status }));
    });
  const done = alarm("a/1", "a/b", { acknowledged_at: 9, acknowledged_by: "user anna" });
  assert.deepEqual(await answer(JSON.stringify(done)), done);
  const [url, init] = seen[0]!;
  assert.equal(url, "v1/alarms/a%2F1/acknowledge");
  assert.equal(init.method, "POST");
  assert.equal((init.headers as Record<string, string>)["X-Shopfloor-Request"], "1");
  for (const body of ["null", "[]", "<html>", "{}"]) assert.equal(await answer(body), null, body);
  assert.equal(await answer(JSON.stringify(done), 403), null);
  assert.equal(await acknowledgeAlarm("a", () => Promise.reject(new TypeError("connection refused"))), null);
});

test("operators and administrators acknowledge, nobody else", () => {
  assert.deepEqual(["viewer", "operator", "admin", "agent", ""].map(mayOperate), [false, true, true, false, false]);
});
