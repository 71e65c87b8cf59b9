import assert from "node:assert/strict";
import { test } from "node:test";
import { currentSession, signIn, signOut, type Fetch } from "../src/lib/session.ts";

const answers = (response: Response, seen: RequestInit[] = []): Fetch => (url, init) => {
  assert.equal(url, "v1/session");
  seen.push(init);
  return Promise.resolve(response);
};
const breaks: Fetch = () => Promise.reject(new TypeError("connection refused"));
const json = (body: unknown, status = 200, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(body), { status, headers });

test("a sign-in carries the page's own header and sends the password in the body alone", async () => {
  const seen: RequestInit[] = [];
  const outcome = await signIn("anna", "secret", answers(json({ user: "anna", role: "operator", asset: "acme" }), seen));
  assert.deepEqual(outcome, { kind: "in", session: { user: "anna", role: "operator" } });
  assert.equal((seen[0]!.headers as Record<string, string>)["X-Shopfloor-Request"], "1");
  assert.equal(seen[0]!.body, '{"user":"anna","password":"secret"}');
  assert.equal(seen[0]!.redirect, "error");
});

test("what is wrong is told apart", async () => {
  assert.deepEqual(await signIn("a", "b", answers(json({}, 401))), { kind: "rejected" });
  assert.deepEqual(await signIn("a", "b", answers(json({}, 503))), { kind: "unreachable" });
  assert.deepEqual(await signIn("a", "b", breaks), { kind: "unreachable" });
  assert.deepEqual(await signIn("a", "b", answers(new Response("<html>"))), { kind: "unreachable" });
  assert.deepEqual(await signIn("a", "b", answers(json([]))), { kind: "unreachable" });
  const later = (wait: string) => signIn("a", "b", answers(json({}, 429, { "Retry-After": wait })));
  assert.deepEqual(await later("30"), { kind: "later", seconds: 30 });
  assert.deepEqual(await later("soon"), { kind: "later", seconds: 1 });
  assert.deepEqual(await later("1e99"), { kind: "later", seconds: 86_400 });
});

test("a sign-out ends the session, also one that has ended already", async () => {
  const seen: RequestInit[] = [];
  assert.equal(await signOut(answers(new Response(null, { status: 204 }), seen)), true);
  assert.equal(seen[0]!.method, "DELETE");
  assert.equal((seen[0]!.headers as Record<string, string>)["X-Shopfloor-Request"], "1");
  assert.equal(await signOut(answers(json({}, 401))), true);
  assert.equal(await signOut(answers(json({}, 503))), false);
  assert.equal(await signOut(breaks), false);
});

test("who is signed in", async () => {
  assert.deepEqual(await currentSession(answers(json({ user: "anna", role: "viewer" }))), { user: "anna", role: "viewer" });
  assert.equal(await currentSession(answers(json({}, 401))), null);
  assert.equal(await currentSession(answers(json({ user: 5 }))), null);
  assert.equal(await currentSession(breaks), null);
});
