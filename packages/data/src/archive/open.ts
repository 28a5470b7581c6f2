import { open } from 'node:fs/promises';
import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { DatasetError } from '@ntaa/contracts';
import type { IngestLimits } from '../types.js';
import { corrupt, type ArchiveEntry } from './entry.js';
import { tarEntries } from './tar.js';
import { tooMany, zipEntries } from './zip.js';

/** An archive that can be read through more than once, whatever its kind. */
export interface Archive {
  kind: 'zip' | 'tar' | 'tar.gz';
  entries(): AsyncIterable<ArchiveEntry>;
}

/** Tells the kind of a file by its content. */
export async function openArchive(file: string, limits: IngestLimits): Promise<Archive> {
  const head = await firstBytes(file);
  if (
    head.subarray(0, 4).equals(Buffer.from('PK\x03\x04')) ||
    head.subarray(0, 4).equals(Buffer.from('PK\x05\x06'))
  )
    return { kind: 'zip', entries: () => guarded(zipEntries(file, limits), limits) };
  if (isTar(head)) return { kind: 'tar', entries: () => guarded(tarEntries(file, false, limits), limits) };
  if (head[0] === 0x1f && head[1] === 0x8b) {
    if (isTar(await firstUnpackedBytes(file)))
      return { kind: 'tar.gz', entries: () => guarded(tarEntries(file, true, limits), limits) };
    throw new DatasetError(
      'archive-unsupported',
      "a gzip'd file that is not a tar inside; send .zip, .tar or .tar.gz",
    );
  }
  throw new DatasetError('archive-unsupported', `${guess(head)}; send .zip, .tar or .tar.gz`);
}

const isTar = (head: Buffer) => head.subarray(257, 262).toString('latin1') === 'ustar';

async function firstBytes(file: string): Promise<Buffer> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(512), 0, 512, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

async function firstUnpackedBytes(file: string): Promise<Buffer> {
  const raw = createReadStream(file);
  const gunzip = createGunzip();
  raw.on('error', (error) => gunzip.destroy(error));
  let head = Buffer.alloc(0);
  try {
    for await (const chunk of raw.pipe(gunzip)) {
      head = Buffer.concat([head, chunk as Buffer]);
      if (head.length >= 512) break;
    }
    return head;
  } catch (error) {
    throw corrupt(error);
  } finally {
    raw.destroy();
  }
}

const KNOWN: readonly [string, string][] = [
  ['Rar!', 'a RAR archive'],
  ['7z\xbc\xaf', 'a 7-Zip archive'],
  ['BZh', "a bzip2'd file"],
  ['\xfd7zXZ', "an xz'd file"],
  ['\x28\xb5\x2f\xfd', 'a Zstandard file'],
  ['\xff\xd8\xff', 'a single JPEG image'],
  ['\x89PNG', 'a single PNG image'],
];
function guess(head: Buffer): string {
  if (head.length === 0) return 'an empty file';
  const text = head.toString('latin1');
  return KNOWN.find(([magic]) => text.startsWith(magic))?.[1] ?? 'not an archive of a known kind';
}

/** Applies the limits that concern the archive as a whole, and refuses paths that some file system would merge. */
async function* guarded(
  entries: AsyncIterable<ArchiveEntry>,
  limits: IngestLimits,
): AsyncGenerator<ArchiveEntry> {
  const seen = new Set<string>();
  let bytes = 0;
  for await (const entry of entries) {
    if (seen.size >= limits.entries) throw tooMany(limits);
    const key = entry.path.toLowerCase().normalize('NFKC');
    if (seen.has(key))
      throw new DatasetError(
        'archive-duplicate-path',
        'two entries have the same path, or differ only in upper and lower case or Unicode form',
        entry.path,
      );
    seen.add(key);
    bytes += entry.size;
    if (bytes > limits.unpackedBytes)
      throw new DatasetError(
        'archive-too-large',
        `the archive unpacks to more than ${limits.unpackedBytes} bytes`,
        entry.path,
      );
    yield entry;
  }
}
