import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Transform } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { DatasetError } from '@ntaa/contracts';
import { extract, type Header } from 'tar-stream';
import type { IngestLimits } from '../types.js';
import { corrupt, type ArchiveEntry } from './entry.js';
import { safePath } from './path.js';

/** The files of a tar, as they come; `gzipped` when it is packed as a whole. */
export async function* tarEntries(
  file: string,
  gzipped: boolean,
  limits: IngestLimits,
): AsyncGenerator<ArchiveEntry> {
  const raw = createReadStream(file, { highWaterMark: 1 << 18 });
  const streams = gzipped
    ? [raw, createGunzip({ chunkSize: 1 << 18 }), cap((await stat(file)).size, limits)]
    : [raw];
  const untar = extract();
  for (const [i, stream] of streams.entries()) {
    stream.on('error', (error: Error) => untar.destroy(error));
    stream.pipe((streams[i + 1] ?? untar) as NodeJS.WritableStream);
  }
  try {
    for await (const entry of untar) {
      const path = check(entry.header);
      let begun = false;
      const chunks = () => {
        begun = true;
        return content(entry as AsyncIterable<unknown> as AsyncIterable<Buffer>, path!);
      };
      if (path !== null) yield { path, size: entry.header.size, chunks };
      if (!begun) entry.resume();
    }
  } catch (error) {
    throw corrupt(error);
  } finally {
    for (const stream of streams) stream.destroy();
    untar.destroy();
  }
}

/** Passes bytes on until they are too many for what they were packed in. */
function cap(packed: number, limits: IngestLimits): Transform {
  let total = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      total += chunk.length;
      const bomb = total > 1e6 && total > limits.ratio * packed;
      // Headers and padding come on top of the content, which is counted elsewhere.
      const large = total > 2 * limits.unpackedBytes;
      if (!bomb && !large) return done(null, chunk);
      const why = bomb ? `over ${limits.ratio} times its size` : `over ${2 * limits.unpackedBytes} bytes`;
      done(new DatasetError('archive-too-large', `the archive unpacks to ${why}`));
    },
  });
}

/** The safe path of a regular file, null for a folder. */
function check(header: Header): string | null {
  const path = safePath(header.name);
  if (!(header.size >= 0))
    throw new DatasetError('archive-corrupt', 'the archive is damaged: a size that is none', path);
  switch (header.type) {
    case 'file':
    case 'contiguous-file':
      return path;
    case 'directory':
      return null;
    case 'symlink':
    case 'link':
      throw new DatasetError('archive-symlink', 'the archive holds a link', path);
    case 'block-device':
    case 'character-device':
    case 'fifo':
    default:
      throw new DatasetError(
        'archive-special-file',
        'the archive holds a device, pipe or unknown entry',
        path,
      );
  }
}

async function* content(entry: AsyncIterable<Buffer>, path: string): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of entry) yield chunk;
  } catch (error) {
    throw corrupt(error, path);
  }
}
