/** Starts and stops the service as `npm start` does, and finds its processes. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';

const MAIN = new URL('../../apps/cli/lib/main.js', import.meta.url).pathname;

export interface Service {
  launcher: ChildProcess;
  url: string;
  key: string;
}

/** `npm start` on a data folder, without waiting. It leads its own process group, as under a terminal. */
export function spawnUp(folder: string, settings: Record<string, string> = {}): ChildProcess {
  const env = { PATH: process.env['PATH'], NTAA_DATA_DIR: folder, PORT: '0', NTAA_WORKERS: '1', ...settings };
  return spawn(process.execPath, [MAIN, 'up'], { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
}

/** Resolves with the banner's rows once the service runs. */
export async function running(launcher: ChildProcess): Promise<Record<string, string>> {
  const shown: Record<string, string> = {};
  for await (const line of createInterface({ input: launcher.stdout! })) {
    const row = /^ {2}(\S[^:]*?) {2,}(.*)$/.exec(line);
    if (row) shown[row[1]!] = row[2]!;
    if (line.includes('Ctrl-C stops it')) break;
  }
  if (!shown['API']) throw new Error(`it did not start: ${await text(launcher.stderr!)}`);
  launcher.stdout!.resume();
  launcher.stderr!.resume();
  return shown;
}

/** Resolves once it and every process that writes to its terminal is gone. */
export async function ended(launcher: ChildProcess): Promise<{ code: number | null; said: string }> {
  const [said, [code]] = await Promise.all([text(launcher.stderr!), once(launcher, 'exit')]);
  return { code: code as number | null, said };
}

export async function launch(folder: string, settings: Record<string, string> = {}): Promise<Service> {
  const launcher = spawnUp(folder, settings);
  const shown = await running(launcher);
  const key = (await readFile(join(folder, 'api-key'), 'utf8')).trim();
  return { launcher, url: shown['API']!.replace(/\/v1$/, ''), key };
}

/** Ctrl-C, as a terminal does it: to the whole process group. Resolves with the exit code. */
export async function stop({ launcher }: Pick<Service, 'launcher'>): Promise<number | null> {
  if (launcher.exitCode !== null) return launcher.exitCode;
  const exit = once(launcher, 'exit');
  process.kill(-launcher.pid!, 'SIGINT');
  return (await exit)[0] as number | null;
}

/** Every process whose command line or environment names the data folder. */
export async function processesOf(folder: string): Promise<{ pid: number; parent: number; args: string }[]> {
  const ps = spawn('ps', ['-eo', 'pid=,ppid=,args=']);
  const found = [];
  for (const line of (await text(ps.stdout)).split('\n')) {
    const [pid = 0, parent = 0] = line.trim().split(/\s+/).map(Number);
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
    if (line.includes(folder) || environment.includes(`NTAA_DATA_DIR=${folder}`))
      found.push({ pid, parent, args: line });
  }
  return found;
}
