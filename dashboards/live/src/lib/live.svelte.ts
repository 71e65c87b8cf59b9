/** The plant as the components see it: reactive piece by piece, refreshed at most once an animation frame. */

import { acknowledgeAlarm } from "./api.ts";
import { serverClock } from "./clock.ts";
import { openConnection, type Connection } from "./connection.ts";
import { Keyed } from "./keyed.svelte.ts";
import { applyEvent, changesBetween, emptyPlant, noChanges, resumedPlant, seriesKey, type Plant } from "./plant.ts";
import { currentSession, mayOperate, signOut, type Session } from "./session.ts";
import { forgetViewerToken, keepViewerToken, viewerToken } from "./token.ts";
import type { Agent, Alarm, LiveEvent, Machine, Series, Site, Value } from "./types.ts";

export type Phase = "connecting" | "live" | "lost" | "refused";
export type ValueListener = (signal: string, value: Value) => void;

const MAX_WARNINGS = 20;

class Live {
  phase = $state<Phase>("connecting");
  /** 401 or 403 while `phase` is `refused`. */
  refusedStatus = $state(0);
  /** Who is signed in with a password; empty for nobody. */
  user = $state("");
  /** Whether who is signed in may acknowledge alarms. */
  operates = $state(false);
  /** Whether there was a whole snapshot: before it, nothing can be said about what exists. */
  ready = $state(false);
  /** The service's time, ms; ticks every second. */
  now = $state(Date.now());
  /** When the service was last heard, in its own time; null before its first word. */
  lastHeard = $state<number | null>(null);
  /** Counts snapshots: after each, a trend reads its history anew. */
  generation = $state(0);

  readonly sites = new Keyed<Site>();
  readonly machines = new Keyed<Machine>();
  readonly alarms = new Keyed<Alarm>();
  readonly activeAlarms: readonly Alarm[] = $derived(
    this.alarms.keys.map((id) => this.alarms.get(id)).filter((alarm) => alarm !== undefined),
  );
  readonly agents = new Keyed<Agent>();
  readonly #values = new Keyed<Value>();
  readonly #series = new Keyed<readonly Series[]>();

  #clock = serverClock(() => performance.now(), Date.now());
  #heardAt: number | null = null;
  #plant: Plant = emptyPlant();
  /** The snapshot that is arriving; the old plant stays on the page, dimmed, until it is whole. */
  #incoming: Plant | null = null;
  #changes = noChanges();
  #frame = 0;
  #listeners = new Map<string, Set<ValueListener>>();
  #connection: Connection | null = null;
  #warned = new Set<string>();

  /** Open the connection; the page calls this once. */
  start(): void {
    this.#connection = openConnection(
      "v1/live",
      {
        event: (event) => this.#take(event),
        heard: () => {
          this.#heardAt = this.#clock.now();
        },
        lost: () => this.#lose("lost"),
        refused: (status) => {
          this.refusedStatus = status;
          this.#lose("refused");
        },
        malformed: (name) => this.#warn(name),
      },
      {
        fetch: (url, init) => fetch(url, init),
        token: viewerToken,
        random: Math.random,
        monotonicMs: () => performance.now(),
      },
    );
    setInterval(() => this.#tick(), 1000);
    const hurry = () => {
      if (this.phase === "lost" && document.visibilityState === "visible") this.#connection?.hurry();
    };
    window.addEventListener("online", hurry);
    document.addEventListener("visibilitychange", () => {
      this.#tick();
      hurry();
    });
  }

  /** Use this token from now on. */
  giveToken(token: string): void {
    keepViewerToken(token);
    this.operates = false;
    this.phase = "connecting";
    this.#connection?.hurry();
  }

  /** Use this session, which the browser has the cookie of, from now on. */
  signedIn(session: Session): void {
    forgetViewerToken();
    this.#know(session);
    this.phase = "connecting";
    this.#connection?.hurry();
  }

  /** End the session; the page begins anew, without what it has shown. */
  async signOut(): Promise<void> {
    if (await signOut()) window.location.reload();
  }

  /** Acknowledge an alarm; false where the service did not take it. */
  async acknowledge(id: string): Promise<boolean> {
    const alarm = await acknowledgeAlarm(id);
    if (alarm === null) return false;
    // An answer that crossed the alarm's end must not bring it back.
    if (this.#plant.alarms.has(id)) this.#take({ kind: "alarms", alarms: [alarm] });
    return true;
  }

  /** The service's time, ms, at this moment; not reactive. */
  serviceNow(): number {
    return this.#clock.now();
  }

  /** The newest value of a series, undefined where it has none. */
  value(asset: string, signal: string): Value | undefined {
    return this.#values.get(seriesKey(asset, signal));
  }

  /** The series of an asset, in no order. */
  series(asset: string): readonly Series[] {
    return this.#series.get(asset) ?? [];
  }

  /** Call `listener` with every new value of an asset, as it comes; returns how to stop. */
  listen(asset: string, listener: ValueListener): () => void {
    const listeners = this.#listeners.get(asset) ?? new Set();
    this.#listeners.set(asset, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(asset);
    };
  }

  #take(event: LiveEvent): void {
    if (event.kind === "hello") {
      this.#clock.forget();
      this.#clock.hear(event.now);
      this.#incoming = event.resumed ? resumedPlant(this.#plant) : emptyPlant();
      return;
    }
    if (event.kind === "ping") this.#clock.hear(event.now);
    if (this.#incoming === null) {
      applyEvent(this.#plant, event, this.#changes);
      if (event.kind === "values") this.#tellListeners(event);
      this.#schedule();
      return;
    }
    applyEvent(this.#incoming, event, noChanges());
    if (!this.#incoming.complete) return;
    this.#changes = changesBetween(this.#plant, this.#incoming);
    this.#plant = this.#incoming;
    this.#incoming = null;
    this.#draw();
    this.phase = "live";
    if (!this.ready && viewerToken() === null && this.user === "") void this.#learnUser();
    this.ready = true;
    this.generation += 1;
    this.#tick();
  }

  async #learnUser(): Promise<void> {
    const session = await currentSession();
    if (session !== null && this.user === "") this.#know(session);
  }

  #know(session: Session): void {
    this.user = session.user;
    this.operates = session.user !== "" && mayOperate(session.role);
  }

  #lose(phase: "lost" | "refused"): void {
    this.#incoming = null;
    this.phase = phase;
    this.#tick();
  }

  #tick(): void {
    this.now = this.#clock.now();
    this.lastHeard = this.#heardAt;
  }

  #schedule(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const changes = this.#changes;
    this.#changes = noChanges();
    this.sites.refresh(this.#plant.sites, changes.sites);
    this.machines.refresh(this.#plant.machines, changes.machines);
    this.alarms.refresh(this.#plant.alarms, changes.alarms);
    this.agents.refresh(this.#plant.agents, changes.agents);
    this.#series.refresh(this.#plant.seriesByAsset, changes.assets);
    this.#values.refresh(this.#plant.values, changes.values);
  }

  #tellListeners(event: LiveEvent & { kind: "values" }): void {
    if (this.#listeners.size === 0) return;
    for (let row = 0; row < event.id.length; row++) {
      const series = this.#plant.seriesById.get(event.id[row]!);
      const listeners = series && this.#listeners.get(series.asset);
      if (!series || !listeners) continue;
      const value = { t: event.t[row]!, v: event.v[row]!, q: event.q[row]! };
      for (const listener of listeners) listener(series.signal, value);
    }
  }

  #warn(name: string): void {
    if (this.#warned.has(name) || this.#warned.size >= MAX_WARNINGS) return;
    this.#warned.add(name);
    console.warn("left out a live event that is not what the contract says:", name);
  }
}

export const live = new Live();
