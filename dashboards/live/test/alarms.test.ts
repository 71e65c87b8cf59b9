import assert from "node:assert/strict";
import { test } from "node:test";
import { alarmLook, alarmsAt, alarmsElsewhere, alarmsFor, alarmsOfMachine } from "../src/lib/alarms.ts";
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

test("a machine shows its own alarms, those of who speaks for it, and those of all that it lies in", () => {
  const asset = "acme/hk01/moulding/cell-a/imm-01";
  const ours = [
    alarm("own", asset, { kind: "pump_dry" }),
    alarm("below", `${asset}/x`, { kind: "agent_silent", subject: "inside" }),
    alarm("agent", "acme/hk01", { kind: "agent_silent", subject: "gateway" }),
    alarm("agent-elsewhere", "acme/hk01/other", { kind: "buffer_low", subject: "gateway" }),
    alarm("source", "acme/hk01", { kind: "clock_offset", subject: "gateway/imm-01" }),
    alarm("gap", "acme/hk01", { kind: "gap", subject: "7f3a" }),
    alarm("line", "acme/hk01/moulding/cell-a", { kind: "pump_dry" }),
    alarm("service", "", { kind: "store_unavailable", subject: "samples" }),
  ];
  const others = [
    alarm("other-agent", "acme/hk01", { kind: "agent_silent", subject: "gateway-2" }),
    alarm("other-source", "acme/hk01", { kind: "clock_offset", subject: "gateway/imm-011" }),
    alarm("other-machine", "acme/hk01/moulding/cell-a/imm-011", { kind: "pump_dry" }),
    alarm("other-site", "acme/dg01", { kind: "gap" }),
  ];
  const shown = (served_by: string[]) => ids(alarmsOfMachine([...ours, ...others], { asset, served_by })).sort();
  assert.deepEqual(shown(["gateway/imm-01"]), ids(ours).sort());
  // An agent that names no source: any of its sources may be the machine's.
  assert.deepEqual(shown(["gateway"]), [...ids(ours), "other-source"].sort());
  // Nobody is known to speak for it: whatever may concern it, by place alone.
  const placed = ids(ours).filter((id) => id !== "agent-elsewhere");
  assert.deepEqual(shown([]), [...placed, "other-agent", "other-source"].sort());
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
