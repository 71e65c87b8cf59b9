/** Requests for history, and the acknowledgement of alarms; values of now come by the live connection. */

import { toAlarm } from "./events.ts";
import { OWN, type Fetch } from "./session.ts";
import { viewerToken } from "./token.ts";
import type { Alarm } from "./types.ts";

/** Buckets of one series: columns of equal length. A bucket without samples is missing or has count 0. */
export interface BucketedSeries {
  asset: string;
  signal: string;
  t: number[];
  count: number[];
  min: (number | null)[];
  max: (number | null)[];
  first: (number | null)[];
  last: (number | null)[];
}

export class Unauthorised extends Error {}
export class ApiError extends Error {}

/**
 * Read the history of some signals of one asset in about `points` buckets between two times (UTC ms).
 *
 * @throws Unauthorised where the service wants another token.
 * @throws ApiError where it answers anything but data.
 */
export async function bucketedSamples(
  asset: string,
  signals: readonly string[],
  fromMs: number,
  toMs: number,
  points: number,
  signal: AbortSignal,
): Promise<BucketedSeries[]> {
  const query = new URLSearchParams({
    asset,
    from: String(Math.round(fromMs)),
    to: String(Math.round(toMs)),
    points: String(points),
  });
  for (const name of signals) query.append("signal", name);
  const token = viewerToken();
  const response = await fetch(`v1/samples?${query}`, {
    headers: token === null ? {} : { Authorization: `Bearer ${token}` },
    cache: "no-store",
    redirect: "error",
    signal,
  });
  if (response.status === 401 || response.status === 403) throw new Unauthorised(`status ${response.status}`);
  if (!response.ok) throw new ApiError(`status ${response.status}`);
  const body: unknown = await response.json();
  const found = (body as { series?: unknown }).series;
  if (!Array.isArray(found)) throw new ApiError("the answer holds no series");
  return found.filter(isBucketed);
}

/** Acknowledge an alarm as who is signed in; return it as it is then, null where the service did not take it. */
export async function acknowledgeAlarm(id: string, send: Fetch = fetch): Promise<Alarm | null> {
  try {
    const init = { method: "POST", headers: OWN, cache: "no-store", redirect: "error" } as const;
    const response = await send(`v1/alarms/${encodeURIComponent(id)}/acknowledge`, init);
    return response.ok ? toAlarm((await response.json()) as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function isBucketed(entry: unknown): entry is BucketedSeries {
  if (typeof entry !== "object" || entry === null) return false;
  const series = entry as Record<string, unknown>;
  if (typeof series.asset !== "string" || typeof series.signal !== "string") return false;
  const t = series.t;
  if (!Array.isArray(t)) return false;
  return ["count", "min", "max", "first", "last"].every((name) => {
    const column = series[name];
    return Array.isArray(column) && column.length === t.length;
  });
}
