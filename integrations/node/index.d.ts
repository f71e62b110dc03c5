import type { Cache, ServiceOptions } from './types.js';

export * from './in-process.js';

/** A client of `cimd-cache serve`. It opens its first connection at the first call. */
export function connect(options: ServiceOptions): Cache;
