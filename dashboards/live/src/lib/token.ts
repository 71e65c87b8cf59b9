/** The viewer token: kept for this tab only, never in the address. */

const KEY = "shopfloor.viewer-token";

export function viewerToken(): string | null {
  return sessionStorage.getItem(KEY);
}

export function forgetViewerToken(): void {
  sessionStorage.removeItem(KEY);
}

export function keepViewerToken(token: string): void {
  sessionStorage.setItem(KEY, token);
}
