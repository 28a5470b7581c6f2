import type { Readable } from 'node:stream';

/** Bytes `start` to `end`, both included, counted from 0. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}
export interface StoredObject {
  readonly key: string;
  /** Bytes. */
  readonly size: number;
  readonly modified: Date;
}
export interface PutOptions {
  /** MIME type kept beside the object where the adapter can; default application/octet-stream. */
  readonly contentType?: string;
}

/**
 * A bucket of objects. Every adapter guarantees, and store.test.ts proves:
 * - put is atomic: a reader sees the whole new object or the whole old one (or none), never a part;
 * - a body that fails or is destroyed rejects the put and leaves nothing behind, old object untouched;
 * - bodies are streamed, never held in memory whole;
 * - get, head and list see a finished put at once;
 * - delete and deletePrefix of what is not there succeed;
 * - keys are slash-separated names of [A-Za-z0-9._=+@-], none of them empty, '.' or '..': others throw InvalidKey.
 */
export interface ObjectStore {
  /** Stores the whole body; resolves once it is durable, with its size in bytes and hex SHA-256. */
  put(
    key: string,
    body: Readable | Uint8Array,
    options?: PutOptions,
  ): Promise<{ size: number; sha256: string }>;
  /** Opens the object, or the given part of it. Throws ObjectMissing. An error later on destroys the stream. */
  get(key: string, range?: ByteRange): Promise<Readable>;
  /** Size in bytes, or null when there is no such object. */
  head(key: string): Promise<{ size: number } | null>;
  delete(key: string): Promise<void>;
  /** Deletes every object whose key starts with `prefix`, which must end in '/'. */
  deletePrefix(prefix: string): Promise<void>;
  /** Objects whose key starts with `prefix` ('' for all), in key order. */
  list(prefix: string): AsyncIterable<StoredObject>;
  /** A URL that downloads the object as `filename` for `seconds`; null where the adapter has none (stream it then). */
  presignGet(key: string, seconds: number, filename: string): Promise<string | null>;
  readonly parts: PartStore;
  /** Removes what processes that were killed had begun to write, where the adapter can tell. */
  sweep(): Promise<void>;
  /** Throws when the store cannot be used now. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** An object that arrives in parts: its key, and the adapter's own name of the unfinished whole. */
export interface PartUpload {
  readonly key: string;
  readonly handle: string;
}
/** Part `number` (from 1) of `size` bytes, which begins at `offset` of the whole. */
export interface Part {
  readonly number: number;
  readonly offset: number;
  readonly size: number;
}
/** Objects that clients send in parts, in any order and several at a time; nothing is seen of one before it is joined. */
export interface PartStore {
  /** Begins an object; returns its handle. */
  begin(key: string): Promise<string>;
  /** Where a client may PUT a part for so many seconds without credentials of ours; null: it is to be given to `put`. */
  presign(upload: PartUpload, part: Part, seconds: number): Promise<string | null>;
  /** Stores a part; one sent again replaces the one before. Throws PartSize. Only where `presign` gives null. */
  put(upload: PartUpload, part: Part, body: Readable): Promise<void>;
  /** Sizes in bytes of the parts that have arrived whole, by number. Throws ObjectMissing when there is no such upload. */
  list(upload: PartUpload): Promise<Map<number, number>>;
  /** Makes the parts, all of which have arrived, one object. */
  join(upload: PartUpload): Promise<void>;
  /** Forgets an upload that is not joined. Forgetting it again succeeds. */
  abort(upload: PartUpload): Promise<void>;
}

/** A part has another size than it must have. */
export class PartSize extends Error {
  constructor(part: Part, size: string) {
    super(`Part ${part.number} must have ${part.size} bytes, not ${size}`);
    this.name = 'PartSize';
  }
}
export class InvalidKey extends Error {
  override name = 'InvalidKey';
}
export class ObjectMissing extends Error {
  override name = 'ObjectMissing';
  readonly key: string;
  constructor(key: string) {
    super(`There is no object ${key} in the store`);
    this.key = key;
  }
}

const PART = /^[A-Za-z0-9._=+@-]+$/;
/** Throws InvalidKey unless `key` is a safe object key: at most 512 characters, no traversal. */
export function checkKey(key: string): void {
  const parts = key.split('/');
  if (key.length > 512 || parts.some((part) => !PART.test(part) || part === '.' || part === '..'))
    throw new InvalidKey(`Not a valid object key: ${JSON.stringify(key.slice(0, 200))}`);
}

/** Throws InvalidKey unless `prefix` is a folder of keys: what is deleted by prefix must be named whole. */
export function checkPrefix(prefix: string): void {
  if (!prefix.endsWith('/'))
    throw new InvalidKey(`A prefix to delete must end in '/': ${JSON.stringify(prefix)}`);
  checkKey(prefix.slice(0, -1));
}
