export { CimdCacheError } from './error.mjs';
export { createCache, fromPg, fromPostgres } from './in-process.mjs';
export { resolve } from './resolve.mjs';
export { connect } from './service.mjs';
