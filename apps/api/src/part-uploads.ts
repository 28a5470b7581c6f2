/** Archives that arrive in parts: their sizes, their URLs, and the archive that they become. */
import { ProblemError, type Upload, type UploadPart } from '@ntaa/contracts';
import { DEFAULT_LIMITS } from '@ntaa/data';
import type { StoredUpload } from '@ntaa/db';
import { ObjectMissing, type ObjectStore, type Part } from '@ntaa/storage';
import { buffer } from 'node:stream/consumers';
import { HEAD_BYTES, requireArchive } from './uploads.js';

const MIB = 2 ** 20;
/** Smallest part that S3 takes (but for the last), what we ask for, and how many there may be. */
const PART = { least: 5 * MIB, usual: 32 * MIB, most: 1000 };
/** An archive that unpacks to what a dataset may have, with what a tar adds to each of its files. */
export const LARGEST_ARCHIVE = DEFAULT_LIMITS.unpackedBytes + 1024 * DEFAULT_LIMITS.entries;
/** How long an upload may take, hours. Presigned URLs cannot outlive the credentials they were signed with. */
export const UPLOAD_HOURS = 24;

/** Bytes of each part of an archive, the last one excepted. */
export function partSizeFor(size: number, maxRequestBytes: number): number {
  if (size > LARGEST_ARCHIVE)
    throw new ProblemError(
      'payload-too-large',
      `No dataset can be made of more than ${LARGEST_ARCHIVE} bytes.`,
    );
  const usual = Math.max(PART.least, Math.min(PART.usual, maxRequestBytes));
  return Math.max(usual, Math.ceil(size / PART.most));
}

export function partsOf({ size, partSize }: Pick<StoredUpload, 'size' | 'partSize'>): Part[] {
  return Array.from({ length: Math.ceil(size / partSize) }, (_, i) => {
    const offset = i * partSize;
    return { number: i + 1, offset, size: Math.min(partSize, size - offset) };
  });
}

type NewUpload = Omit<StoredUpload, 'dataset' | 'createdAt'>;

/**
 * The parts of an upload that is open, and where to send them.
 * @param base the service's own address as the caller sees it, for stores that have no URLs.
 * @param arrived sizes of those that are there, by number.
 */
export async function presentParts(
  store: ObjectStore,
  upload: NewUpload,
  base: string,
  arrived: ReadonlyMap<number, number> = new Map(),
): Promise<UploadPart[]> {
  const { id, secret, expiresAt } = upload;
  const seconds = Math.max(1, Math.floor((expiresAt.getTime() - Date.now()) / 1000));
  return Promise.all(
    partsOf(upload).map(async (part) => {
      const url = await store.parts.presign(upload, part, seconds);
      const own = `${base}/v1/uploads/${id}/parts/${part.number}?token=${secret}`;
      return { ...part, url: url ?? own, received: arrived.get(part.number) === part.size };
    }),
  );
}

/** Those that are still to be sent, or to be joined. */
export async function openParts(
  store: ObjectStore,
  upload: StoredUpload,
  base: string,
): Promise<UploadPart[]> {
  if (upload.dataset !== null || (await isJoined(store, upload))) return [];
  return presentParts(store, upload, base, await arrivedParts(store, upload));
}

export function presentUpload(upload: StoredUpload, parts: UploadPart[]): Upload {
  const { id, size, filename, partSize, dataset, createdAt, expiresAt } = upload;
  return {
    ...{ id: id as Upload['id'], object: 'upload', size, filename, part_size: partSize, parts },
    dataset: dataset as Upload['dataset'],
    created_at: createdAt.toISOString(),
    expires_at: expiresAt.toISOString(),
  };
}

/** Makes one object of the parts, and checks that it begins as an archive does. It may be called again, not at once. */
export async function joinUpload(store: ObjectStore, upload: StoredUpload): Promise<void> {
  if (!(await isJoined(store, upload))) {
    const arrived = await arrivedParts(store, upload);
    const missing = partsOf(upload).filter(({ number, size }) => arrived.get(number) !== size);
    if (missing.length) {
      const numbers = missing.slice(0, 20).map(({ number }) => number);
      const list = `${numbers.join(', ')}${missing.length > numbers.length ? ', …' : ''}`;
      throw new ProblemError('conflict', `${upload.id} is not complete.`, [
        { pointer: '/upload', code: 'parts-missing', detail: `lacks ${missing.length} parts: ${list}` },
      ]);
    }
    await store.parts.join(upload);
  }
  const end = Math.min(HEAD_BYTES, upload.size) - 1;
  requireArchive(await buffer(await store.get(upload.key, { start: 0, end })));
}

const isJoined = async (store: ObjectStore, { key, size }: StoredUpload): Promise<boolean> =>
  (await store.head(key))?.size === size;

async function arrivedParts(store: ObjectStore, upload: StoredUpload): Promise<Map<number, number>> {
  try {
    return await store.parts.list(upload);
  } catch (error) {
    if (!(error instanceof ObjectMissing)) throw error;
    throw new ProblemError('conflict', `What arrived of ${upload.id} is gone; begin another upload.`);
  }
}
