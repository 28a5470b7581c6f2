export { openStore, type StoreConfig, type S3Settings } from './open.js';
export { checkKey, InvalidKey, ObjectMissing } from './store.js';
export type { ObjectStore, StoredObject, ByteRange, PutOptions } from './store.js';
