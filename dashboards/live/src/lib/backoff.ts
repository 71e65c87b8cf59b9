const FIRST_MS = 500;
const LONGEST_MS = 5000;

/**
 * Return how long to wait before connection attempt `attempt` (1, 2, ...), in ms.
 *
 * Doubles from half a second to five, of which a random half is taken off: after a restart of the service, all the
 * wall boards do not come at one instant. `random` yields [0, 1).
 */
export function retryDelay(attempt: number, random: () => number): number {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt - 1, 10));
  return ceiling * (1 - random() / 2);
}
