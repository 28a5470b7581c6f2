export { openDatabase } from './database.js';
export { startEmbeddedPostgres, type EmbeddedPostgres } from './embedded.js';
export { LeaseLost, NameTaken, MAX_FAILURES } from './types.js';
export type * from './types.js';
