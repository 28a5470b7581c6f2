/** Zip archives with reproducible bytes. */
import { createWriteStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ZipFile } from 'yazl';

/** Any fixed time would do. Local, because that is what the format stores. */
const fixedTime = () => new Date(2000, 0, 1);

/**
 * Writes a zip of these files, path inside the archive to path on disk, in the map's order. Entries are stored, not
 * deflated: float weights hardly shrink, and deflated bytes would depend on the zlib version of the running Node.
 */
export async function writeZip(target: string, files: ReadonlyMap<string, string>): Promise<void> {
  const zip = new ZipFile();
  for (const [name, path] of files)
    zip.addFile(path, name, { mtime: fixedTime(), mode: 0o100644, compress: false, forceDosTimestamp: true });
  zip.end();
  // yazl reports a file it cannot read on itself; its output would then never end.
  const output = zip.outputStream as Readable;
  zip.on('error', (error: Error) => output.destroy(error));
  await pipeline(output, createWriteStream(target));
}
