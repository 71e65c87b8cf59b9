/** Signing in and out with a user's name and password. The session is a cookie that no script can read. */

/** Who is signed in; `user` is empty where a token is used. */
export interface Session {
  user: string;
  role: string;
}

export type Outcome = { kind: "in"; session: Session } | { kind: "rejected" | "unreachable" } | { kind: "later"; seconds: number };

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

const PATH = "v1/session";
const LONGEST_WAIT_S = 86_400;
/** No page of another site can send this header along with the cookie: the service asks for it before it changes anything. */
export const OWN = { "X-Shopfloor-Request": "1" };

/** Begin a session. */
export async function signIn(user: string, password: string, send: Fetch = fetch): Promise<Outcome> {
  let response: Response;
  try {
    response = await send(PATH, {
      method: "POST",
      headers: { ...OWN, "Content-Type": "application/json" },
      body: JSON.stringify({ user, password }),
      cache: "no-store",
      redirect: "error",
      credentials: "same-origin",
    });
    if (response.ok) {
      const session = decodeSession(await response.json());
      return session === null ? { kind: "unreachable" } : { kind: "in", session };
    }
  } catch {
    return { kind: "unreachable" };
  }
  if (response.status === 429) return { kind: "later", seconds: waitOf(response) };
  return { kind: response.status === 401 ? "rejected" : "unreachable" };
}

/** End the session; true where there is none any more. */
export async function signOut(send: Fetch = fetch): Promise<boolean> {
  try {
    const init = { method: "DELETE", headers: OWN, cache: "no-store", redirect: "error" } as const;
    const response = await send(PATH, init);
    return response.ok || response.status === 401;
  } catch {
    return false;
  }
}

/** Ask who is signed in by cookie; null where nobody is, or the service does not say. */
export async function currentSession(send: Fetch = fetch): Promise<Session | null> {
  try {
    const response = await send(PATH, { cache: "no-store", redirect: "error" });
    return response.ok ? decodeSession(await response.json()) : null;
  } catch {
    return null;
  }
}

/** Tell whether a role acknowledges alarms; the service decides, the page only leaves out what would be refused. */
export function mayOperate(role: string): boolean {
  return role === "operator" || role === "admin";
}

function decodeSession(body: unknown): Session | null {
  if (typeof body !== "object" || body === null) return null;
  const { user, role } = body as Record<string, unknown>;
  return typeof user === "string" && typeof role === "string" ? { user, role } : null;
}

function waitOf(response: Response): number {
  const seconds = Number(response.headers.get("Retry-After"));
  return Number.isFinite(seconds) && seconds >= 1 ? Math.min(Math.ceil(seconds), LONGEST_WAIT_S) : 1;
}
