/** Archives on their way into storage: recognised by their first bytes, counted, hashed; never held whole. */
import { ProblemError } from '@ntaa/contracts';
import type { ObjectStore } from '@ntaa/storage';
import { Transform, type Readable, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';

export type ArchiveKind = 'zip' | 'tar' | 'gzip';
/** A tar header: the most that is needed to recognise an archive, bytes. */
export const HEAD_BYTES = 512;

/** What an archive is by its first 512 bytes (fewer when the file is shorter), or null. */
export function sniffArchive(head: Buffer): ArchiveKind | null {
  if (head.length >= 4 && head[0] === 0x50 && head[1] === 0x4b)
    return (head[2] === 3 && head[3] === 4) || (head[2] === 5 && head[3] === 6) ? 'zip' : null;
  if (head.length >= 3 && head[0] === 0x1f && head[1] === 0x8b && head[2] === 8) return 'gzip';
  return head.length >= HEAD_BYTES && isTarHeader(head) ? 'tar' : null;
}

/** The sum of all bytes, its own field as spaces, stands in a header of any tar dialect. */
function isTarHeader(head: Buffer): boolean {
  const stated = Number.parseInt(
    head
      .toString('latin1', 148, 156)
      .replace(/[\0 ]+/g, ' ')
      .trim(),
    8,
  );
  let sum = 8 * 0x20;
  for (let i = 0; i < HEAD_BYTES; i++) if (i < 148 || i >= 156) sum += head[i]!;
  return sum === stated;
}

/** @throws {ProblemError} unless a file that begins so is an archive. */
export function requireArchive(head: Buffer): void {
  if (sniffArchive(head)) return;
  const detail = 'The file is not a .zip, .tar or .tar.gz archive, judged by its content.';
  throw new ProblemError('unsupported-media-type', detail);
}

/** Passes bytes on once they are known to be an archive; fails beyond `maxBytes`. */
function checkedArchive(maxBytes: number): Transform {
  let head: Buffer | null = Buffer.alloc(0);
  let bytes = 0;
  const pass = (first: Buffer, done: TransformCallback): void => {
    try {
      requireArchive(first);
      done(null, first);
    } catch (error) {
      done(error as Error);
    }
  };
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > maxBytes) return done(tooLarge(maxBytes));
      if (!head) return done(null, chunk);
      head = Buffer.concat([head, chunk]);
      if (head.length < HEAD_BYTES) return done();
      const first = head;
      head = null;
      pass(first, done);
    },
    flush(done) {
      if (head) pass(head, done);
      else done();
    },
  });
}

export const tooLarge = (maxBytes: number): ProblemError =>
  new ProblemError(
    'payload-too-large',
    `The file is larger than ${maxBytes} bytes, the most this server takes in one request; send it in parts: POST /v1/uploads.`,
  );

/** Streams an archive into the store. Whatever fails, nothing stays behind. Bytes and hex SHA-256 of what was stored. */
export async function storeArchive(
  store: ObjectStore,
  key: string,
  file: Readable,
  maxBytes: number,
): Promise<{ size: number; sha256: string }> {
  const archive = checkedArchive(maxBytes);
  const flowing = pipeline(file, archive);
  const [stored, flow] = await Promise.allSettled([store.put(key, archive), flowing]);
  // The reason why the bytes stopped coming says more than the store's error about it.
  if (flow.status === 'rejected' && !isAbort(flow.reason)) throw await gone(store, key, flow.reason);
  if (stored.status === 'rejected') throw stored.reason;
  if (flow.status === 'rejected') throw await gone(store, key, flow.reason);
  return stored.value;
}
const isAbort = (error: unknown): boolean =>
  (error as { code?: string }).code === 'ERR_STREAM_PREMATURE_CLOSE';

async function gone(store: ObjectStore, key: string, reason: unknown): Promise<unknown> {
  await store.delete(key);
  return reason;
}
