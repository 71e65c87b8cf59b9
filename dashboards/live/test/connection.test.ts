import assert from "node:assert/strict";
import { test } from "node:test";
import { retryDelay } from "../src/lib/backoff.ts";
import { serverClock } from "../src/lib/clock.ts";
import { openConnection, SILENCE_MS, type Connection } from "../src/lib/connection.ts";

/** A service on paper: each call of fetch takes the next answer. */
function stage(answers: ((signal: AbortSignal) => Response | Promise<Response>)[]) {
  const seen: string[] = [];
  const sent: (string | undefined)[] = [];
  const ids: (string | undefined)[] = [];
  let time = 0;
  let token: string | null = null;
  let arrived: () => void = () => undefined;
  const note = (what: string) => {
    seen.push(what);
    arrived();
  };
  const connection: Connection = openConnection(
    "v1/live",
    {
      event: (event) => note(event.kind),
      heard: () => undefined,
      lost: () => note("lost"),
      refused: (status) => note(`refused ${status}`),
      malformed: (name) => note(`malformed ${name}`),
    },
    {
      fetch: async (_url, init) => {
        sent.push((init.headers as Record<string, string>).Authorization);
        ids.push((init.headers as Record<string, string>)["Last-Event-ID"]);
        const answer = answers.shift();
        if (answer === undefined) throw new TypeError("connection refused");
        return answer(init.signal as AbortSignal);
      },
      token: () => token,
      random: () => 0,
      monotonicMs: () => time,
    },
  );
  return {
    seen,
    sent,
    ids,
    connection,
    giveToken: (given: string) => {
      token = given;
    },
    pass: (ms: number) => {
      time += ms;
    },
    async until(what: string) {
      while (!seen.includes(what)) await new Promise<void>((resolve) => (arrived = resolve));
    },
  };
}

const sse = { status: 200, headers: { "Content-Type": "text/event-stream; charset=utf-8" } };
const ping = 'event: ping\ndata: {"now": 2}\n\n';
const hello = 'event: hello\ndata: {"now": 1}\n\n';

test("an ended stream is a lost connection, and hurrying opens the next one", async () => {
  const play = stage([() => new Response(hello, sse), () => new Response(hello + ping, sse)]);
  await play.until("lost");
  play.connection.hurry();
  await play.until("ping");
  play.connection.close();
  assert.deepEqual(play.seen.slice(0, 4), ["hello", "lost", "hello", "ping"]);
});

test("the next connection says where the last one left off", async () => {
  const play = stage([
    () => new Response(`${hello}id: a-1\n\n${ping}id: a-2\n\nevent: ping\nid: a-3\n`, sse),
    () => new Response(hello + ping, sse),
  ]);
  await play.until("lost");
  play.connection.hurry();
  await play.until("ping");
  play.connection.close();
  assert.deepEqual(play.ids.slice(0, 2), [undefined, "a-2"]);
});

test("a stream without its beginning is no connection", async () => {
  const play = stage([() => new Response(ping + hello, sse)]);
  await play.until("lost");
  play.connection.close();
  assert.deepEqual(play.seen.slice(0, 1), ["lost"]);
});

test("401 asks for a token, waits for one, and sends it", async () => {
  const play = stage([() => new Response("{}", { status: 401 }), () => new Response(hello, sse)]);
  await play.until("refused 401");
  play.giveToken("s3cret");
  play.connection.hurry();
  await play.until("hello");
  play.connection.close();
  assert.deepEqual(play.sent.slice(0, 2), [undefined, "Bearer s3cret"]);
});

test("a page instead of a stream is no connection", async () => {
  const play = stage([() => new Response("<html>", { status: 200, headers: { "Content-Type": "text/html" } })]);
  await play.until("lost");
  play.connection.close();
  assert.deepEqual(play.seen, ["lost"]);
});

test("a stream that falls silent is lost", async () => {
  const silent = (signal: AbortSignal) =>
    new Response(
      new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode(hello));
          signal.addEventListener("abort", () => controller.error(signal.reason));
        },
      }),
      sse,
    );
  const play = stage([silent]);
  await play.until("hello");
  play.pass(SILENCE_MS + 1);
  await play.until("lost");
  play.connection.close();
  assert.deepEqual(play.seen, ["hello", "lost"]);
});

test("a malformed event is named and costs nothing else", async () => {
  const play = stage([() => new Response(`${hello}event: values\ndata: nonsense\n\n${ping}`, sse)]);
  await play.until("ping");
  play.connection.close();
  assert.deepEqual(play.seen.slice(0, 3), ["hello", "malformed values", "ping"]);
});

test("waiting doubles to five seconds, and chance takes off half of it at most", () => {
  assert.deepEqual([1, 2, 3, 4, 5, 500].map((attempt) => retryDelay(attempt, () => 0)), [500, 1000, 2000, 4000, 5000, 5000]);
  assert.equal(retryDelay(5, () => 1), 2500);
});

test("the service's clock is taken from its quickest message, and followed when it is set", () => {
  let mono = 0;
  const clock = serverClock(() => mono, 1_000_000);
  clock.hear(500_000);
  assert.equal(clock.now(), 500_000, "this computer's clock does not count once the service has spoken");
  mono = 100;
  clock.hear(500_050);
  assert.equal(clock.now(), 500_100, "late by 50 ms");
  mono = 200;
  clock.hear(500_230);
  assert.equal(clock.now(), 500_230, "quicker than any before");
  mono = 300;
  clock.hear(400_000);
  assert.equal(clock.now(), 400_000, "the service's clock was set back");
});
