// A bound on how many do something at once.

/** Lets `size` in at once; the others wait in line. */
export class Room {
  #free;
  #line = [];

  constructor(size) {
    this.#free = size;
  }

  get waiting() {
    return this.#line.length;
  }

  /** Resolves when there is room. Whoever is aborted before leaves the line. */
  enter(signal) {
    signal?.throwIfAborted();
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#line.splice(this.#line.indexOf(admit), 1);
        reject(signal.reason);
      };
      const admit = () => {
        signal?.removeEventListener('abort', abort);
        resolve();
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#line.push(admit);
    });
  }

  leave() {
    const admit = this.#line.shift();
    if (admit === undefined) this.#free += 1;
    else admit();
  }
}
