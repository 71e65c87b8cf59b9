/** Server-sent events from a byte stream (WHATWG HTML §9.2.6), for fetch() instead of EventSource. */

export interface SseMessage {
  event: string;
  data: string;
}

/** One message may not grow beyond this; the service's largest is a snapshot of all values. */
const MAX_MESSAGE_CHARS = 64 * 1024 * 1024;

export class SseOverflow extends Error {}

/**
 * Return a function that takes the next piece of text and returns the messages that it completed.
 *
 * Pieces may end anywhere, also between the two characters of a CRLF. `retry` is of no use here: the page has delays of
 * its own.
 *
 * @param takeId is given each id when the block that it stands in ends, be there an event in it or not.
 * @throws SseOverflow when a message never ends.
 */
export function sseParser(takeId?: (id: string) => void): (chunk: string) => SseMessage[] {
  let rest = "";
  let started = false;
  let skipLineFeed = false;
  let event = "";
  let data: string[] = [];
  let id: string | null = null;
  let chars = 0;

  function takeLine(line: string, out: SseMessage[]): void {
    if (line === "") {
      if (data.length > 0) out.push({ event: event || "message", data: data.join("\n") });
      if (id !== null) takeId?.(id);
      event = "";
      data = [];
      id = null;
      chars = 0;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") {
      data.push(value);
      chars += value.length;
    } else if (field === "event") {
      event = value;
    } else if (field === "id" && !value.includes("\0")) {
      id = value;
    }
  }

  return (chunk) => {
    let text = chunk;
    if (!started && text.length > 0) {
      started = true;
      if (text.startsWith("\uFEFF")) text = text.slice(1);
    }
    if (skipLineFeed && text.length > 0) {
      skipLineFeed = false;
      if (text.startsWith("\n")) text = text.slice(1);
    }
    const out: SseMessage[] = [];
    let begin = 0;
    for (let at = 0; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (code !== 10 && code !== 13) continue;
      takeLine(rest + text.slice(begin, at), out);
      rest = "";
      if (code === 13) {
        if (at + 1 === text.length) skipLineFeed = true;
        else if (text.charCodeAt(at + 1) === 10) at++;
      }
      begin = at + 1;
    }
    rest += text.slice(begin);
    if (rest.length + chars > MAX_MESSAGE_CHARS) throw new SseOverflow("a message without an end");
    return out;
  };
}
