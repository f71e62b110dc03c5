// The memory of one instance of the core module.

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export class Memory {
  #memory;
  #realloc;
  #view;

  constructor(memory, realloc) {
    this.#memory = memory;
    this.#realloc = realloc;
    this.#view = new DataView(memory.buffer);
  }

  /** Made anew whenever the memory has grown, which detaches the buffer. */
  get view() {
    if (this.#view.buffer !== this.#memory.buffer) this.#view = new DataView(this.#memory.buffer);
    return this.#view;
  }

  bytes(address, length) {
    return new Uint8Array(this.#memory.buffer, address, length);
  }

  text(address, length) {
    return DECODER.decode(this.bytes(address, length));
  }

  allocate(size, align) {
    if (size === 0) return align;
    return this.#realloc(0, 0, align, size) >>> 0;
  }

  placeBytes(bytes) {
    const address = this.allocate(bytes.length, 1);
    this.bytes(address, bytes.length).set(bytes);
    return [address, bytes.length];
  }

  placeText(text) {
    return this.placeBytes(ENCODER.encode(text));
  }
}
