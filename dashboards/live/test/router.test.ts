import assert from "node:assert/strict";
import { test } from "node:test";
import { byLine, machinesOf } from "../src/lib/selectors.ts";
import { machineHref, parseRoute, siteHref } from "../src/lib/router.ts";

test("addresses lead where they say", () => {
  assert.deepEqual(parseRoute(""), { view: "overview" });
  assert.deepEqual(parseRoute("#/"), { view: "overview" });
  assert.deepEqual(parseRoute(siteHref("acme/hk01")), { view: "site", asset: "acme/hk01" });
  assert.deepEqual(parseRoute(machineHref("acme/hk01/a/b/c", ["x.y", "z"], 600)), {
    view: "machine",
    asset: "acme/hk01/a/b/c",
    signals: ["x.y", "z"],
    spanS: 600,
  });
});

test("anything else is an unknown page, never an error", () => {
  for (const hash of ["#/nowhere", "#/site/", "#/site/%E0%A4%A", "#/site/<script>", "#/machine/../../etc", "#/site/a//b"]) {
    assert.equal(parseRoute(hash).view, "unknown", hash);
  }
  const route = parseRoute("#/machine/a/b?signals=ok,<img>,&span=-5");
  assert.deepEqual(route, { view: "machine", asset: "a/b", signals: ["ok"], spanS: null });
});

test("a site has the machines below it, and not those of one whose name begins alike", () => {
  const assets = ["acme/hk01/a/b/c", "acme/hk010/a/b/c", "acme/hk01/a/d/c"];
  assert.deepEqual(machinesOf(assets, "acme/hk01"), ["acme/hk01/a/b/c", "acme/hk01/a/d/c"]);
  assert.deepEqual(byLine(machinesOf(assets, "acme/hk01")).map(({ line }) => line), ["a / b", "a / d"]);
});
