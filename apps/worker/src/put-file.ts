import { createReadStream } from 'node:fs';
import type { ObjectStore } from '@ntaa/storage';
import type { StoredObjectRef } from './protocol.js';

/** Streams a file to the store. */
export async function putFile(store: ObjectStore, key: string, path: string): Promise<StoredObjectRef> {
  const { size, sha256 } = await store.put(key, createReadStream(path));
  return { key, sha256, size };
}
