/** What the launcher keeps in the data folder besides the stores: who uses it now, and the first API key. */
import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDataFolder, StartError, unusableFolder } from '@ntaa/config';

/** Makes the folder and claims it for this process; resolves to the function that gives it back. */
export async function claimDataFolder(folder: string): Promise<() => Promise<void>> {
  await makeDataFolder(folder);
  const lock = join(folder, 'lock');
  const mine = `${process.pid} ${await startedAt(process.pid)}`;
  const usable = <T>(done: Promise<T>): Promise<T> =>
    done.catch((error: unknown) => {
      throw unusableFolder(folder, error);
    });
  while (!(await usable(writeNew(lock, mine, 0o644)))) {
    const held = await readFile(lock, 'utf8').catch(() => '');
    const pid = Number.parseInt(held, 10);
    if (pid > 0 && pid !== process.pid && isAlive(pid) && held === `${pid} ${await startedAt(pid)}`)
      throw new StartError(
        `The data folder ${folder} is in use by another ntaa (process ${pid}). ` +
          'Stop that one, or give this one a folder of its own with NTAA_DATA_DIR.',
      );
    await usable(rm(lock, { force: true }));
  }
  return () => rm(lock, { force: true });
}

/** False, and nothing written, when the file exists. */
async function writeNew(file: string, text: string, mode: number): Promise<boolean> {
  try {
    await writeFile(file, text, { flag: 'wx', mode });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Tells two processes with the same number apart; '' where the system does not say. */
async function startedAt(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // proc(5): field 22, counted after the command's closing parenthesis, which is field 2.
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

export interface BootstrapKey {
  readonly secret: string;
  /** Where it comes from; `made`: just now. */
  readonly origin: 'environment' | 'made' | 'kept';
  readonly file: string;
}

/** The configured key, or the one kept in the folder, which is made the first time. */
export async function bootstrapKey(folder: string, configured: string | null): Promise<BootstrapKey> {
  const file = join(folder, 'api-key');
  if (configured !== null) return { secret: configured, origin: 'environment', file };
  const secret = `ntaa_${randomBytes(24).toString('base64url')}`;
  try {
    if (await writeNew(file, `${secret}\n`, 0o600)) return { secret, origin: 'made', file };
    return { secret: (await readFile(file, 'utf8')).trim(), origin: 'kept', file };
  } catch (error) {
    throw unusableFolder(folder, error);
  }
}
