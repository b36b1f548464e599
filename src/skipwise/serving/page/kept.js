// What the browser keeps for the page, by name; where it has no room for it, or keeps nothing for
// anybody, this page's memory does, and what is there alone is known.
//
//   write(name, text)  ->  the browser's storage, or memory  ->  read(name)
//
// - What was written before stays in the storage while its successor has no room: better old than
//   nothing, for whoever comes next.
// - What is in memory is moved as soon as there is room.

class Kept {
  /** @param storage "localStorage" or "sessionStorage": what it lies in. */
  constructor(storage) {
    this.storage = storage;
    this.memory = new Map();
  }

  /** Names of what only this page's memory has. */
  get unwritten() {
    return [...this.memory.keys()];
  }

  write(name, text) {
    this.memory.set(name, text);
    this.settle();
  }

  read(name) {
    return this.memory.get(name) ?? this.#try((storage) => storage.getItem(name)) ?? null;
  }

  drop(name) {
    this.memory.delete(name);
    this.#try((storage) => storage.removeItem(name));
    if (this.memory.size) this.settle();
  }

  /** Names that begin so. */
  names(prefix) {
    const written = this.#try((storage) => Object.keys(storage)) ?? [];
    return [...new Set([...written, ...this.memory.keys()])].filter((name) => name.startsWith(prefix));
  }

  /** Move what there is room for from memory into the storage, oldest first. */
  settle() {
    for (const [name, text] of this.memory) {
      const written = this.#try((storage) => {
        storage.setItem(name, text);
        return true;
      });
      if (written) this.memory.delete(name);
    }
  }

  /** Do something with the storage; undefined where the browser refuses. */
  #try(does) {
    try {
      return does(window[this.storage]);
    } catch (refusal) {
      if (!(refusal instanceof DOMException)) throw refusal;  // full, or closed to pages
      return undefined;
    }
  }
}

/** What outlives this page. */
export const kept = new Kept("localStorage");

/** What outlives a reload, in this tab. */
export const keptInTab = new Kept("sessionStorage");
