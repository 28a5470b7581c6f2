import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { DatasetError } from '@ntaa/contracts';
import yauzl, { type Entry, type ZipFile } from 'yauzl';
import type { IngestLimits } from '../types.js';
import { corrupt, type ArchiveEntry } from './entry.js';
import { safePath } from './path.js';

const open = promisify<string, yauzl.Options, ZipFile>(yauzl.open);
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** The files of a zip, from its central directory. */
export async function* zipEntries(file: string, limits: IngestLimits): AsyncGenerator<ArchiveEntry> {
  let zip: ZipFile;
  try {
    // Names are decoded and judged here: yauzl turns backslashes into slashes and words its refusals as plain errors.
    zip = await open(file, { lazyEntries: true, autoClose: false, decodeStrings: false });
  } catch (error) {
    throw corrupt(error);
  }
  try {
    if (zip.entryCount > limits.entries) throw tooMany(limits);
    const packed = (await stat(file)).size;
    let claimed = 0;
    for (let entry = await next(zip); entry; entry = await next(zip)) {
      claimed += entry.compressedSize;
      // Members that overlap are how a small file claims to hold petabytes.
      if (claimed > packed)
        throw new DatasetError('archive-corrupt', 'the members of the zip overlap', nameOf(entry));
      const checked = check(zip, entry, limits);
      if (checked) yield checked;
    }
  } finally {
    zip.close();
  }
}

export const tooMany = (limits: IngestLimits) =>
  new DatasetError('archive-too-many-entries', `the archive holds more than ${limits.entries} entries`);

function next(zip: ZipFile): Promise<Entry | null> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      zip.removeListener('entry', onEntry);
      zip.removeListener('end', onEnd);
      zip.removeListener('error', onError);
      act();
    };
    const onEntry = (entry: Entry) => settle(() => resolve(entry));
    const onEnd = () => settle(() => resolve(null));
    const onError = (error: Error) => settle(() => reject(corrupt(error) as Error));
    zip.on('entry', onEntry).on('end', onEnd).on('error', onError);
    zip.readEntry();
  });
}

/** UTF-8 whenever it is valid UTF-8: many tools write it without setting the flag; otherwise code page 437. */
function nameOf(entry: Entry): string {
  try {
    return utf8.decode(entry.fileNameRaw);
  } catch {
    return yauzl.getFileNameLowLevel(entry.generalPurposeBitFlag, entry.fileNameRaw, entry.extraFields, true);
  }
}

const FILE_TYPE = 0xf000;
const [SYMLINK, REGULAR, DIRECTORY] = [0xa000, 0x8000, 0x4000];

/** The entry as ours, null for a folder. */
function check(zip: ZipFile, entry: Entry, limits: IngestLimits): ArchiveEntry | null {
  const name = nameOf(entry);
  const path = safePath(name);
  const type = (entry.externalFileAttributes >>> 16) & FILE_TYPE;
  if (type === SYMLINK) throw new DatasetError('archive-symlink', 'the archive holds a symbolic link', path);
  if (type !== 0 && type !== REGULAR && type !== DIRECTORY)
    throw new DatasetError('archive-special-file', 'the archive holds a device, pipe or socket', path);
  if (name.endsWith('/')) return null;
  if (entry.isEncrypted())
    throw new DatasetError('archive-encrypted', 'the archive is encrypted; pack it without a password', path);
  if (entry.compressionMethod !== 0 && entry.compressionMethod !== 8)
    throw new DatasetError(
      'archive-unsupported',
      `compression method ${entry.compressionMethod} is not supported; use store or deflate`,
      path,
    );
  const { uncompressedSize: size, compressedSize } = entry;
  if (size > 1e6 && size > limits.ratio * compressedSize)
    throw new DatasetError(
      'archive-too-large',
      `an entry unpacks to over ${limits.ratio} times its size`,
      path,
    );
  return { path, size, chunks: () => content(zip, entry, path) };
}

async function* content(zip: ZipFile, entry: Entry, path: string): AsyncGenerator<Buffer> {
  try {
    const openStream = promisify(zip.openReadStream.bind(zip) as typeof zip.openReadStream);
    let sum = 0;
    for await (const chunk of (await openStream(entry)) as AsyncIterable<Buffer>) {
      sum = crc32(chunk, sum);
      yield chunk;
    }
    if (sum !== entry.crc32) throw new Error('wrong checksum');
  } catch (error) {
    throw corrupt(error, path);
  }
}
