export { openStore, type StoreConfig, type S3Settings } from './open.js';
export { checkKey, InvalidKey, ObjectMissing, PartSize } from './store.js';
export type {
  ObjectStore,
  StoredObject,
  ByteRange,
  Part,
  PartStore,
  PartUpload,
  PutOptions,
} from './store.js';
