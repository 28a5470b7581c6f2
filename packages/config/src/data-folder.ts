import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StartError } from './start.js';

/**
 * Makes the data folder and what is missing above it, for this user alone. (Not by `mkdir` with `recursive`: where the
 * file system takes no folders, as in /proc, Node tries again for ever.)
 */
export async function makeDataFolder(folder: string): Promise<void> {
  await make(folder).catch((error: unknown) => {
    throw unusableFolder(folder, error);
  });
}

/** The data folder cannot be made, read or written. */
export function unusableFolder(folder: string, error: unknown): StartError {
  const { cause, remedy } = explainFolder(error);
  return new StartError(`NTAA_DATA_DIR ${folder} cannot be used: ${cause}. ${remedy}.`, { cause: error });
}

export function explainFolder(error: unknown): { cause: string; remedy: string } {
  const { code = '', message } = error as NodeJS.ErrnoException;
  const remedy = 'Set NTAA_DATA_DIR to a folder that this user may write to';
  return { cause: CAUSES[code] ?? message, remedy };
}

const CAUSES: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'it is on a read-only file system',
  ENOTDIR: 'a file is where a folder should be',
  ENOENT: 'no folder can be made there',
  ENOSPC: 'the disk is full',
};

async function make(folder: string): Promise<void> {
  if (await isFolder(folder)) return;
  const parent = dirname(folder);
  if (parent !== folder) await make(parent);
  await mkdir(folder, { mode: 0o700 }).catch(async (error: NodeJS.ErrnoException) => {
    // Another process may have made it meanwhile.
    if (error.code !== 'EEXIST' || !(await isFolder(folder))) throw error;
  });
}

/** Throws ENOTDIR for a file. */
async function isFolder(path: string): Promise<boolean> {
  try {
    if ((await stat(path)).isDirectory()) return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
  throw Object.assign(new Error(`${path} is not a folder`), { code: 'ENOTDIR' });
}
