/**
 * Parts as pieces of one file, each written at its place, so that joining them is a renaming. A part that is whole has
 * a marker beside it, an empty file named by its number and size.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { ObjectMissing, PartSize, type Part, type PartStore, type PartUpload } from './store.js';

const DATA = 'data';

/** @param moveInto renames a whole file to where the object of a key lies. */
export function fileParts(folder: string, moveInto: (file: string, key: string) => Promise<void>): PartStore {
  const folderOf = ({ handle }: PartUpload): string => {
    if (!/^[0-9a-f]{24}$/.test(handle)) throw new Error(`Not the handle of an upload: ${handle}`);
    return join(folder, handle);
  };
  const marker = (upload: PartUpload, { number, size }: Part): string =>
    join(folderOf(upload), `${number}-${size}`);
  return {
    async begin(key) {
      const upload = { key, handle: randomBytes(12).toString('hex') };
      await mkdir(folderOf(upload), { recursive: true });
      await (await open(join(folderOf(upload), DATA), 'wx')).close();
      return upload.handle;
    },
    presign: () => Promise.resolve(null),
    async put(upload, part, body) {
      await rm(marker(upload, part), { force: true });
      const file = await open(join(folderOf(upload), DATA), 'r+').catch(missing(upload));
      try {
        await writeAt(file, part, body);
        await file.datasync();
      } finally {
        await file.close();
      }
      await (await open(marker(upload, part), 'w')).close();
      // How long it has been untouched tells whether anybody still sends it.
      const now = new Date();
      await utimes(folderOf(upload), now, now);
    },
    async list(upload) {
      const names = await readdir(folderOf(upload)).catch(missing(upload));
      const whole = names.filter((name) => name !== DATA).map((name) => name.split('-').map(Number));
      return new Map(whole.map(([number, size]): [number, number] => [number!, size!]));
    },
    async join(upload) {
      const data = join(folderOf(upload), DATA);
      await stat(data).catch(missing(upload));
      await moveInto(data, upload.key);
      await rm(folderOf(upload), { recursive: true, force: true });
    },
    abort: (upload) => rm(folderOf(upload), { recursive: true, force: true }),
  };
}

async function writeAt(file: Awaited<ReturnType<typeof open>>, part: Part, body: Readable): Promise<void> {
  let done = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    if (done + chunk.length > part.size) throw new PartSize(part, 'more');
    for (let at = 0; at < chunk.length;) {
      const { bytesWritten } = await file.write(chunk, at, chunk.length - at, part.offset + done + at);
      at += bytesWritten;
    }
    done += chunk.length;
  }
  if (done < part.size) throw new PartSize(part, String(done));
}

const missing =
  ({ key }: PartUpload) =>
  (error: NodeJS.ErrnoException): never => {
    throw error.code === 'ENOENT' ? new ObjectMissing(key) : error;
  };
