import { createHash } from 'node:crypto';
import { Readable, Transform } from 'node:stream';

/** Passes bytes on, counting and hashing them. (No property `size`: lib-storage takes one for the whole length.) */
export class Digest extends Transform {
  #size = 0;
  readonly #hash = createHash('sha256');
  override _transform(chunk: Buffer, _: BufferEncoding, done: (error: null, chunk: Buffer) => void): void {
    this.#size += chunk.length;
    this.#hash.update(chunk);
    done(null, chunk);
  }
  /** Once everything has passed. */
  result(): { size: number; sha256: string } {
    return { size: this.#size, sha256: this.#hash.digest('hex') };
  }
}

/** Whole, as one chunk: Readable.from would take an array of bytes for an iterable of numbers. */
export const streamOf = (body: Readable | Uint8Array): Readable =>
  body instanceof Uint8Array ? Readable.from([body], { objectMode: false }) : body;
