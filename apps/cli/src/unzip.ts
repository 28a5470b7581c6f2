import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, resolve, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';
import yauzl from 'yauzl';

/** Unpacks an archive into `folder`. Entries that would lie outside it are refused (yauzl, and again here). */
export async function unzip(archive: string, folder: string): Promise<void> {
  const root = resolve(folder);
  const zip = await yauzl.openPromise(archive);
  try {
    for await (const entry of zip.eachEntry()) {
      const path = resolve(root, entry.fileName);
      if (!path.startsWith(root + sep)) throw new Error(`${archive} is unsafe: entry ${entry.fileName}`);
      if (entry.fileName.endsWith('/')) continue;
      await mkdir(dirname(path), { recursive: true });
      await pipeline(await zip.openReadStreamPromise(entry), createWriteStream(path));
    }
  } finally {
    zip.close();
  }
}
