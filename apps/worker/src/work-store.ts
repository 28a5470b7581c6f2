/** The object store as a child uses it: what fails in it is said to be its failure, and so is tried again later. */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { JobError } from '@ntaa/contracts';
import { ObjectMissing, openStore, type ObjectStore, type StoreConfig } from '@ntaa/storage';
import type { StoredObjectRef } from './protocol.js';

export class WorkStore {
  readonly #store: ObjectStore;

  private constructor(store: ObjectStore) {
    this.#store = store;
  }
  static async open(config: StoreConfig): Promise<WorkStore> {
    return new WorkStore(await attempted(openStore(config)));
  }

  async put(key: string, bytes: Uint8Array): Promise<StoredObjectRef> {
    return { key, ...(await attempted(this.#store.put(key, bytes))) };
  }
  async putFile(key: string, path: string): Promise<StoredObjectRef> {
    return { key, ...(await attempted(this.#store.put(key, createReadStream(path)))) };
  }
  /** @throws {ObjectMissing} */
  async read(key: string): Promise<Buffer> {
    return attempted(this.#store.get(key).then(buffer));
  }
  /** Streams an object to a file and returns its hash, which must be `sha256` where that is known. @throws {ObjectMissing} */
  async fetch(key: string, path: string, sha256: string | null): Promise<string> {
    const body = await attempted(this.#store.get(key));
    const hash = createHash('sha256');
    async function* hashed(): AsyncGenerator<Buffer> {
      const chunks = body.iterator() as AsyncIterator<Buffer>;
      for (let next = await attempted(chunks.next()); !next.done; next = await attempted(chunks.next())) {
        hash.update(next.value);
        yield next.value;
      }
    }
    await pipeline(hashed, createWriteStream(path)).finally(() => body.destroy());
    const found = hash.digest('hex');
    if (sha256 !== null && found !== sha256)
      throw new JobError('storage-unavailable', `The stored object ${key} is damaged or was cut off`);
    return found;
  }
  close(): Promise<void> {
    return this.#store.close();
  }
}

async function attempted<T>(operation: Promise<T>): Promise<T> {
  try {
    return await operation;
  } catch (error) {
    if (error instanceof ObjectMissing) throw error;
    throw new JobError('storage-unavailable', 'The object store does not answer as it should', {
      cause: error,
    });
  }
}
