/**
 * Objects as files: the key is the path. A body is written under a temporary name in a folder of its own on the same
 * file system, synced, and renamed into place.
 */
import { randomBytes } from 'node:crypto';
import { createWriteStream, type Dirent } from 'node:fs';
import { access, constants, mkdir, open, readdir, rename, rm, rmdir, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Digest, streamOf } from './digest.js';
import { fileParts } from './file-parts.js';
import { checkKey, checkPrefix, ObjectMissing, type ObjectStore, type StoredObject } from './store.js';

/** Not names that a key can have: keys know no '~'. */
const DRAFTS = '~drafts';
const PARTS = '~parts';
/** In the names of drafts, with the writer's process id: pods and containers have host names of their own. */
const HOST = hostname().replace(/[^A-Za-z0-9.-]/g, '-');
/** What was untouched for so long belongs to nobody, milliseconds: another process may be writing the younger ones. */
const STALE = { drafts: 86_400_000, parts: 7 * 86_400_000 };

export async function fileStore(folder: string): Promise<ObjectStore> {
  const root = resolve(folder);
  const drafts = join(root, DRAFTS);
  await mkdir(drafts, { recursive: true });
  const pathOf = (key: string): string => {
    checkKey(key);
    return join(root, ...key.split('/'));
  };

  return {
    async put(key, body) {
      const path = pathOf(key);
      const draft = join(drafts, `${HOST}~${process.pid}~${randomBytes(12).toString('hex')}`);
      const digest = new Digest();
      const file = createWriteStream(draft, { flags: 'wx', flush: true });
      try {
        await pipeline(streamOf(body), digest, file);
        await moveInto(draft, path);
      } catch (error) {
        // A body may fail before the file is there, and it would appear after it was removed.
        if (!file.closed) await new Promise<void>((resolve) => file.once('close', () => resolve()));
        await rm(draft, { force: true });
        throw error;
      }
      return digest.result();
    },
    async get(key, range) {
      const file = await open(pathOf(key)).catch(missing(key));
      const info = await file.stat();
      if (!info.isFile()) {
        await file.close();
        throw new ObjectMissing(key);
      }
      return file.createReadStream(range ? { start: range.start, end: range.end } : {}) as Readable;
    },
    async head(key) {
      const info = await stat(pathOf(key)).catch(orNull);
      return info?.isFile() ? { size: info.size } : null;
    },
    async delete(key) {
      const path = pathOf(key);
      const info = await stat(path).catch(orNull);
      if (!info?.isFile()) return;
      await rm(path, { force: true });
      await removeEmpty(dirname(path), root);
    },
    async deletePrefix(prefix) {
      checkPrefix(prefix);
      const path = pathOf(prefix.slice(0, -1));
      const info = await stat(path).catch(orNull);
      if (!info?.isDirectory()) return;
      await rm(path, { recursive: true, force: true });
      await removeEmpty(dirname(path), root);
    },
    async *list(prefix) {
      // Only folders on the way to the prefix are read; the rest of it filters names.
      const cut = prefix.lastIndexOf('/') + 1;
      const start = cut === 0 ? root : pathOf(prefix.slice(0, cut - 1));
      const found: StoredObject[] = [];
      for await (const object of walk(start, prefix.slice(0, cut)))
        if (object.key.startsWith(prefix)) found.push(object);
      yield* found.sort((a, b) => (a.key < b.key ? -1 : 1));
    },
    presignGet: () => Promise.resolve(null),
    parts: fileParts(join(root, PARTS), (file, key) => moveInto(file, pathOf(key))),
    async sweep() {
      for (const name of (await readdir(drafts).catch(orNull)) ?? []) {
        const [host, pid] = name.split('~');
        if (host === HOST && !isAlive(Number(pid))) await rm(join(drafts, name), { force: true });
      }
      await rmStale(drafts, STALE.drafts);
      await rmStale(join(root, PARTS), STALE.parts);
    },
    async ping() {
      await access(drafts, constants.R_OK | constants.W_OK);
    },
    close: () => Promise.resolve(),
  };
}

/** Renames into a folder that is made when missing, and made again when it was removed as empty meanwhile. */
async function moveInto(draft: string, path: string): Promise<void> {
  for (let attempt = 0; ; attempt++)
    try {
      await mkdir(dirname(path), { recursive: true });
      await rename(draft, path);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === 5) throw error;
    }
  // The new name must survive a crash too.
  const folder = await open(dirname(path));
  await folder.sync().finally(() => folder.close());
}

async function removeEmpty(folder: string, root: string): Promise<void> {
  for (let at = folder; at !== root; at = dirname(at))
    try {
      await rmdir(at);
    } catch {
      return; // Not empty, or somebody else's to remove.
    }
}

async function* walk(folder: string, prefix: string): AsyncIterable<StoredObject> {
  const entries: Dirent[] = (await readdir(folder, { withFileTypes: true }).catch(orNull)) ?? [];
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (!entry.name.startsWith('~')) yield* walk(path, `${prefix}${entry.name}/`);
      continue;
    }
    const info = await stat(path).catch(orNull);
    if (info) yield { key: prefix + entry.name, size: info.size, modified: info.mtime };
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Removes what was untouched for so many milliseconds. */
async function rmStale(folder: string, age: number): Promise<void> {
  for (const name of (await readdir(folder).catch(orNull)) ?? []) {
    const path = join(folder, name);
    const info = await stat(path).catch(orNull);
    if (info && Date.now() - info.mtimeMs > age) await rm(path, { recursive: true, force: true });
  }
}

function orNull(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null;
  throw error;
}
const missing = (key: string) => (error: NodeJS.ErrnoException) => {
  throw orNull(error) ?? new ObjectMissing(key);
};
