/** The launcher as users run it: one command up, Ctrl-C down, nothing left. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { buffer, text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, it } from 'vitest';

const MAIN = new URL('../apps/cli/lib/main.js', import.meta.url).pathname;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ntaa-up-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function launch(settings: Record<string, string> = {}): ChildProcess {
  const env = { PATH: process.env['PATH'], NTAA_DATA_DIR: folder, PORT: '0', NTAA_WORKERS: '1', ...settings };
  return spawn(process.execPath, [MAIN, 'up'], { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
}

/** Resolves with the banner's values once the service runs. */
async function running(launcher: ChildProcess): Promise<Record<string, string>> {
  const shown: Record<string, string> = {};
  for await (const line of createInterface({ input: launcher.stdout! })) {
    const row = /^ {2}(\S[^:]*?) {2,}(.*)$/.exec(line);
    if (row) shown[row[1]!] = row[2]!;
    if (line.includes('Ctrl-C stops it')) break;
  }
  launcher.stdout!.resume();
  launcher.stderr!.resume();
  if (!shown['API']) throw new Error(`it did not start: ${await text(launcher.stderr!)}`);
  return shown;
}

/** Command lines of every process that names the data folder in its command line or environment. */
async function processes(): Promise<{ pid: number; args: string }[]> {
  const ps = spawn('ps', ['-eo', 'pid=,args=']);
  const found = [];
  for (const line of (await buffer(ps.stdout)).toString().split('\n')) {
    const pid = Number.parseInt(line, 10);
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
    if (line.includes(folder) || environment.includes(`NTAA_DATA_DIR=${folder}`))
      found.push({ pid, args: line });
  }
  return found;
}

it('serves, restarts a killed worker, and leaves no process, port or temporary file after Ctrl-C', async () => {
  const launcher = launch();
  const shown = await running(launcher);
  const url = shown['API']!.replace(/\/v1$/, '');
  const key = /^ntaa_\S+/.exec(shown['API key']!)![0];
  expect((await stat(join(folder, 'api-key'))).mode & 0o777).toBe(0o600);
  const asked = await fetch(`${url}/v1/supernets`, { headers: { authorization: `Bearer ${key}` } });
  expect(asked.status).toBe(200);

  const worker = (await processes()).find(({ args }) => args.includes('worker/lib/main.js'))!;
  process.kill(worker.pid, 'SIGKILL');
  const successor = async (): Promise<boolean> =>
    (await processes()).some(({ pid, args }) => pid !== worker.pid && args.includes('worker/lib/main.js'));
  await expect.poll(successor, { timeout: 60_000 }).toBe(true);

  const second = launch();
  expect(await text(second.stderr!)).toContain('in use by another ntaa');
  expect(second.exitCode ?? (await once(second, 'exit'))[0]).toBe(1);

  // As a terminal does it: to the whole process group.
  const ended = once(launcher, 'exit');
  process.kill(-launcher.pid!, 'SIGINT');
  expect(await ended).toEqual([0, null]);
  expect(await processes()).toEqual([]);
  await expect(fetch(url)).rejects.toThrow();
  expect((await readdir(folder)).sort()).toEqual(['api-key', 'objects', 'postgres']);
}, 240_000);

it('takes everything along when it is killed, and starts again on the same folder', async () => {
  const launcher = launch();
  await running(launcher);
  const ended = once(launcher, 'exit');
  process.kill(launcher.pid!, 'SIGKILL');
  await ended;
  const ours = async (): Promise<string[]> =>
    (await processes()).map(({ args }) => args).filter((args) => args.includes('/lib/'));
  await expect.poll(ours, { timeout: 60_000 }).toEqual([]);

  const again = launch();
  expect((await running(again))['API key']).toMatch(/^kept in/);
  const stopped = once(again, 'exit');
  again.kill('SIGTERM');
  expect(await stopped).toEqual([0, null]);
  expect(await processes()).toEqual([]);
}, 240_000);

it('says what is wrong in one message and leaves nothing', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  for (const [settings, message] of [
    [{ PORT: String(port) }, /Port \d+ on 127\.0\.0\.1 is in use/],
    [{ PORT: 'x', NTAA_ENGINE: 'abacus' }, /PORT[^]*NTAA_ENGINE/],
  ] as const) {
    const launcher = launch(settings);
    const [said, [code]] = await Promise.all([text(launcher.stderr!), once(launcher, 'exit')]);
    expect(said).toMatch(message);
    expect(said).not.toMatch(/\n {4}at /);
    expect(code).toBe(1);
    expect(await readdir(folder)).toEqual([]);
  }
  taken.close();
}, 60_000);
