import { untrack } from "svelte";

class Cell<T> {
  value = $state.raw<T | undefined>();

  constructor(value: T | undefined) {
    this.value = value;
  }
}

/**
 * A reactive face of a plain map: whoever reads a key is told of that key only, and `keys` changes only when one
 * comes or goes. Cells exist for what was read, so that nine thousand unseen values cost nothing.
 */
export class Keyed<T> {
  /** In order of their text. */
  keys = $state.raw<readonly string[]>([]);
  #source: ReadonlyMap<string, T> = new Map();
  #cells = new Map<string, Cell<T>>();

  get(key: string): T | undefined {
    let cell = this.#cells.get(key);
    if (cell === undefined) {
      // Outside of the reader's tracking: Svelte does not make a reaction depend on state that it created itself.
      cell = untrack(() => new Cell(this.#source.get(key)));
      this.#cells.set(key, cell);
    }
    return cell.value;
  }

  /** Show these keys of `source` as they are now. */
  refresh(source: ReadonlyMap<string, T>, changed: ReadonlySet<string>): void {
    this.#source = source;
    for (const key of changed) {
      const cell = this.#cells.get(key);
      if (cell !== undefined) cell.value = source.get(key);
    }
    if (source.size !== this.keys.length || !this.keys.every((key) => source.has(key))) {
      this.keys = [...source.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    }
  }
}
