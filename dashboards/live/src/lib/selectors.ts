/** Choices over lists of assets; sorted input gives sorted output. */

import { contains } from "./router.ts";

export function machinesOf(assets: readonly string[], site: string): string[] {
  return assets.filter((asset) => contains(site, asset));
}

/** Group machines by what stands between their site and them: area and line. */
export function byLine(assets: readonly string[]): { line: string; assets: string[] }[] {
  const groups = new Map<string, string[]>();
  for (const asset of assets) {
    const line = asset.split("/").slice(2, -1).join(" / ");
    const group = groups.get(line);
    if (group === undefined) groups.set(line, [asset]);
    else group.push(asset);
  }
  return [...groups].map(([line, members]) => ({ line, assets: members }));
}
