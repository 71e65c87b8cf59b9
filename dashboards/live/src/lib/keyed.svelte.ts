class Cell<T> {
  /** Undefined once the key is gone: readers come again and wait for the map's shape to change. */
  value = $state.raw<T | undefined>();

  constructor(value: T) {
    this.value = value;
  }
}

const ORDER = new Intl.Collator("en", { numeric: true });

/**
 * A reactive face of a plain map: whoever reads a key is told of that key only, and `keys` changes only when one
 * comes or goes.
 *
 * Cells are made when data arrives, never when a component reads: Svelte does not make a reaction depend on state
 * that it created itself. An unread cell costs some bytes and an assignment.
 */
export class Keyed<T> {
  /** Sorted as people count: imm-2 before imm-10. */
  readonly keys: readonly string[] = $derived.by(() => {
    void this.#shape;
    return [...this.#cells.keys()].sort(ORDER.compare);
  });
  #shape = $state(0);
  #cells = new Map<string, Cell<T>>();

  get(key: string): T | undefined {
    const cell = this.#cells.get(key);
    if (cell !== undefined) return cell.value;
    void this.#shape;
    return undefined;
  }

  /** Show these keys as they are in `source` now. */
  refresh(source: ReadonlyMap<string, T>, changed: ReadonlySet<string>): void {
    let reshaped = false;
    for (const key of changed) {
      const value = source.get(key);
      const cell = this.#cells.get(key);
      if (cell !== undefined && value !== undefined) {
        cell.value = value;
      } else if (value !== undefined) {
        this.#cells.set(key, new Cell(value));
        reshaped = true;
      } else if (cell !== undefined) {
        this.#cells.delete(key);
        reshaped = true;
        cell.value = undefined;
      }
    }
    if (reshaped) this.#shape += 1;
  }
}
