/**
 * The service's clock, estimated from what it says: a wall board whose own clock is wrong still shows right ages.
 *
 * Each message is late by its journey, so the largest difference seen is the closest; a step of the service's clock
 * by more than two seconds begins anew. `monotonicMs` is performance.now(): the browser's wall clock may be set
 * while the page runs.
 */
export function serverClock(monotonicMs: () => number, initialMs: number) {
  const STEP_MS = 2000;
  let offset = initialMs - monotonicMs();
  let known = false;
  return {
    /** Take a time that the service has just stated. */
    hear(now: number): void {
      const seen = now - monotonicMs();
      if (!known || seen > offset || offset - seen > STEP_MS) offset = seen;
      known = true;
    },
    /** Begin anew: a connection may reach another machine, or the computer may have slept. */
    forget(): void {
      known = false;
    },
    now(): number {
      return monotonicMs() + offset;
    },
  };
}
