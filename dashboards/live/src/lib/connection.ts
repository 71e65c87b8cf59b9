/** The one connection to `/v1/live`: opened, watched, and opened again for as long as the page lives. */

import { retryDelay } from "./backoff.ts";
import { decodeEvent } from "./events.ts";
import { sseParser } from "./sse.ts";
import type { LiveEvent } from "./types.ts";

/** The service pings every 2 s; three of them missing is a lost connection. */
export const SILENCE_MS = 6000;
const WATCH_MS = 500;
/** A connection that lived this long was a good one: the next attempt follows soon. */
const SETTLED_MS = 5000;

export interface Listener {
  event(event: LiveEvent): void;
  /** Something arrived, whatever it was. */
  heard(): void;
  lost(): void;
  /** The service wants a token (401), or the given one does not reach far enough (403). */
  refused(status: number): void;
  /** An event that is not what the contract says; it was left out. */
  malformed(name: string): void;
}

export interface Surroundings {
  fetch(url: string, init: RequestInit): Promise<Response>;
  token(): string | null;
  random(): number;
  monotonicMs(): number;
}

export interface Connection {
  /** Try now instead of later: a token was given, the network came back, the page is looked at again. */
  hurry(): void;
  close(): void;
}

type Ending = { why: "lost"; livedMs: number } | { why: "refused"; status: number };

export function openConnection(url: string, listener: Listener, around: Surroundings): Connection {
  let closed = false;
  let lastHeard = 0;
  /** Where the last connection left off: the next one goes on there. */
  let lastId: string | null = null;
  let running: AbortController | null = null;
  let wake: (() => void) | null = null;

  const watch = setInterval(() => {
    if (running !== null && around.monotonicMs() - lastHeard > SILENCE_MS) running.abort();
  }, WATCH_MS);

  async function attemptOnce(): Promise<Ending> {
    const control = new AbortController();
    running = control;
    lastHeard = around.monotonicMs();
    let opened: number | null = null;
    try {
      const token = around.token();
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (token !== null) headers.Authorization = `Bearer ${token}`;
      if (lastId !== null) headers["Last-Event-ID"] = lastId;
      const response = await around.fetch(url, {
        headers,
        cache: "no-store",
        redirect: "error",
        signal: control.signal,
      });
      if (response.status === 401 || response.status === 403) return { why: "refused", status: response.status };
      const type = response.headers.get("Content-Type") ?? "";
      if (response.ok && response.body !== null && type.startsWith("text/event-stream")) {
        opened = around.monotonicMs();
        await readAll(response.body, control.signal);
      }
    } catch {
      // Refused, reset, aborted by the watch: all of them are a lost connection, and the page says so.
    } finally {
      running = null;
      control.abort();
    }
    return { why: "lost", livedMs: opened === null ? 0 : around.monotonicMs() - opened };
  }

  async function readAll(body: ReadableStream<Uint8Array>, signal: AbortSignal): Promise<void> {
    const parse = sseParser((id) => {
      lastId = id;
    });
    let begun = false;
    const decoder = new TextDecoder();
    const reader = body.getReader();
    while (!signal.aborted) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return;
      lastHeard = around.monotonicMs();
      listener.heard();
      for (const message of parse(decoder.decode(value, { stream: true }))) {
        const event = decodeEvent(message.event, message.data);
        begun ||= event?.kind === "hello";
        // A stream that lost its beginning would leave the page waiting for a snapshot for ever.
        if (!begun) return;
        if (event === null) listener.malformed(message.event);
        else listener.event(event);
      }
    }
  }

  function sleep(ms: number | null): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === null ? undefined : setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async function run(): Promise<void> {
    let attempt = 0;
    while (!closed) {
      const ending = await attemptOnce();
      if (closed) return;
      if (ending.why === "refused") {
        listener.refused(ending.status);
        attempt = 0;
        await sleep(null);
      } else {
        listener.lost();
        attempt = ending.livedMs > SETTLED_MS ? 1 : attempt + 1;
        await sleep(retryDelay(attempt, around.random));
      }
      wake = null;
    }
  }

  void run();
  return {
    hurry: () => wake?.(),
    close: () => {
      closed = true;
      clearInterval(watch);
      running?.abort();
      wake?.();
    },
  };
}
