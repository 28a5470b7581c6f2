import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

// Folders are named HOST~PID~UUID, so that a starting worker can tell which of them nobody uses any more.
const host = hostname().replace(/[^A-Za-z0-9.-]/g, '-');

export interface Scratch {
  readonly folder: string;
  remove(): Promise<void>;
}

/** An empty folder under `root`, to be removed by whoever asked for it. */
export async function makeScratch(root: string): Promise<Scratch> {
  const folder = join(root, `${host}~${process.pid}~${randomUUID()}`);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** Runs `use` with an empty folder under `root`, which is removed afterwards whatever happens. */
export async function withScratch<T>(root: string, use: (folder: string) => Promise<T>): Promise<T> {
  const { folder, remove } = await makeScratch(root);
  try {
    return await use(folder);
  } finally {
    await remove();
  }
}

/** Removes what processes of this host left behind that are not running any more. Returns the folders' names. */
export async function sweepScratch(root: string): Promise<string[]> {
  const names = await readdir(root).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const orphans = names.filter((name) => {
    const [owner, pid] = name.split('~');
    // This process has only just started: a folder with its id is an earlier process's.
    return owner === host && (Number(pid) === process.pid || !isAlive(Number(pid)));
  });
  await Promise.all(orphans.map((name) => rm(join(root, name), { recursive: true, force: true })));
  return orphans;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
