/** Where in the page we are, as a location hash: `#/`, `#/site/PATH`, `#/machine/PATH?signals=a,b&span=3600`. */

export type Route =
  | { view: "overview" }
  | { view: "site"; asset: string }
  | { view: "machine"; asset: string; signals: string[]; spanS: number | null }
  | { view: "unknown"; hash: string };

const ASSET = /^[a-z0-9][a-z0-9_-]{0,62}(\/[a-z0-9][a-z0-9_-]{0,62}){0,4}$/;
const SIGNAL = /^[a-z0-9][a-z0-9_.]{0,511}$/;

export function parseRoute(hash: string): Route {
  const text = hash.replace(/^#/, "");
  if (text === "" || text === "/") return { view: "overview" };
  const unknown: Route = { view: "unknown", hash: text };
  const [path = "", query = ""] = text.split("?", 2);
  const found = /^\/(site|machine)\/(.+?)\/?$/.exec(path);
  if (found === null) return unknown;
  let asset: string;
  try {
    asset = decodeURIComponent(found[2]!);
  } catch {
    return unknown;
  }
  if (!ASSET.test(asset)) return unknown;
  if (found[1] === "site") return { view: "site", asset };
  const options = new URLSearchParams(query);
  const span = Number(options.get("span"));
  return {
    view: "machine",
    asset,
    signals: (options.get("signals") ?? "").split(",").filter((signal) => SIGNAL.test(signal)),
    spanS: Number.isInteger(span) && span > 0 ? span : null,
  };
}

export function siteHref(asset: string): string {
  return `#/site/${asset}`;
}

export function machineHref(asset: string, signals: readonly string[] = [], spanS: number | null = null): string {
  const options = [];
  if (signals.length > 0) options.push(`signals=${signals.join(",")}`);
  if (spanS !== null) options.push(`span=${spanS}`);
  return `#/machine/${asset}${options.length > 0 ? `?${options.join("&")}` : ""}`;
}

/** Return the first two levels of an asset path: its site. */
export function siteOf(asset: string): string {
  return asset.split("/").slice(0, 2).join("/");
}

/** Tell whether one asset is the other or lies above it. */
export function contains(asset: string, other: string): boolean {
  return asset === other || other.startsWith(`${asset}/`);
}
