export { openDatabase } from './database.js';
export { startEmbeddedPostgres, type EmbeddedPostgres } from './embedded.js';
export {
  KeyLost,
  LeaseLost,
  NameTaken,
  QuotaExceeded,
  UnknownCursor,
  UploadUsed,
  MAX_FAILURES,
  WORKER_SEEN_MS,
} from './types.js';
export { datasetFolder, outputFolder, piecesFolder } from './garbage.js';
export type * from './types.js';
