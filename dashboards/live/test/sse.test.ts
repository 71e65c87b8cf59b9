import assert from "node:assert/strict";
import { test } from "node:test";
import { sseParser } from "../src/lib/sse.ts";

test("a message cut anywhere, with any line ends, is the same message", () => {
  for (const end of ["\n", "\r\n", "\r"]) {
    const text = ["\uFEFF: a comment", "event: values", "data: {", 'data:"a":1}', "id: 7", "", "data: x", "", ""].join(end);
    const whole = [
      { event: "values", data: '{\n"a":1}' },
      { event: "message", data: "x" },
    ];
    for (let cut = 0; cut <= text.length; cut++) {
      const parse = sseParser();
      const found = [...parse(text.slice(0, cut)), ...parse(text.slice(cut))];
      assert.deepEqual(found, whole, `cut at ${cut} with ${JSON.stringify(end)}`);
    }
    const parse = sseParser();
    assert.deepEqual([...text].flatMap((character) => parse(character)), whole);
  }
});

test("an event without data is none, and its name does not leak into the next", () => {
  const parse = sseParser();
  assert.deepEqual(parse("event: ping\n\ndata: 1\n\n"), [{ event: "message", data: "1" }]);
});

test("an unfinished message stays unfinished", () => {
  const parse = sseParser();
  assert.deepEqual(parse("event: values\ndata: {}\n"), []);
  assert.deepEqual(parse("\n"), [{ event: "values", data: "{}" }]);
});

test("an id is told when its block ends, with an event or without", () => {
  const ids: string[] = [];
  const parse = sseParser((id) => ids.push(id));
  parse("event: values\ndata: {}\nid: 1\n");
  assert.deepEqual(ids, []);
  parse("\nid: 2\n\nid: 3");
  assert.deepEqual(ids, ["1", "2"]);
});
