// npm sparkplug-payload behind JSON lines. See README.md for what goes in and out.
import { createInterface } from "node:readline";
import Long from "long";
import payloads from "sparkplug-payload";

const sparkplug = payloads.get("spBv1.0");
const LONGS = new Set(["Int64", "UInt32", "UInt64", "DateTime"]);
const INTEGERS = new Set(["Int8", "Int16", "Int32", "UInt8", "UInt16"]);

function long(text) {
  return Long.fromString(text, !text.startsWith("-"));
}

function toPeer(type, value) {
  if (value === null) return null;
  if (LONGS.has(type)) return long(value);
  if (INTEGERS.has(type)) return Number(value);
  if (type === "Bytes" || type === "File") return Buffer.from(value, "hex");
  return value;
}

function fromPeer(type, value) {
  if (value === null || value === undefined) return null;
  if (LONGS.has(type) || INTEGERS.has(type)) return value.toString();
  if (type === "Bytes" || type === "File") return Buffer.from(value).toString("hex");
  return value;
}

function encode(payload) {
  const metrics = payload.metrics.map((metric) => {
    const given = { ...metric, value: toPeer(metric.type, metric.value) };
    if (metric.alias !== undefined) given.alias = long(metric.alias);
    if (metric.timestamp !== undefined) given.timestamp = long(metric.timestamp);
    return given;
  });
  const bytes = sparkplug.encodePayload({ timestamp: long(payload.timestamp), seq: long(payload.seq), metrics });
  return Buffer.from(bytes).toString("hex");
}

function decode(hex) {
  const payload = sparkplug.decodePayload(Buffer.from(hex, "hex"));
  const metrics = (payload.metrics ?? []).map((metric) => {
    const told = { ...metric, value: fromPeer(metric.type, metric.value) };
    if (metric.alias !== undefined) told.alias = metric.alias.toString();
    if (metric.timestamp !== undefined) told.timestamp = metric.timestamp.toString();
    return told;
  });
  return { timestamp: payload.timestamp.toString(), seq: payload.seq.toString(), metrics };
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const answer = request.encode ? encode(request.encode) : decode(request.decode);
  process.stdout.write(JSON.stringify(answer) + "\n");
}
