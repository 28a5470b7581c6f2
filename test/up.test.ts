/** The launcher as users run it: one command up, Ctrl-C down, nothing left. */
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ended, processesOf, running, spawnUp, stop } from './setup/service.js';
import { startStack } from './setup/stack.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ntaa up ünï-'));
});
afterEach(async () => {
  // What a failed test left running.
  for (const { pid } of await processesOf(folder)) process.kill(pid, 'SIGKILL');
  await rm(folder, { recursive: true, force: true });
});

const commandLines = async (): Promise<string[]> => (await processesOf(folder)).map(({ args }) => args);

/** A server that accepts connections and never says a word. */
async function silentServer(): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}

it('serves, restarts a killed worker, and leaves no process, port or temporary file after Ctrl-C', async () => {
  const launcher = spawnUp(folder);
  const shown = await running(launcher);
  const url = shown['API']!.replace(/\/v1$/, '');
  const key = /^ntaa_\S+/.exec(shown['API key']!)![0];
  expect((await stat(join(folder, 'api-key'))).mode & 0o777).toBe(0o600);
  const asked = await fetch(`${url}/v1/supernets`, { headers: { authorization: `Bearer ${key}` } });
  expect(asked.status).toBe(200);

  const workers = async () =>
    (await processesOf(folder)).filter(({ args }) => args.includes('worker/lib/main.js'));
  const [worker] = await workers();
  process.kill(worker!.pid, 'SIGKILL');
  const successor = async (): Promise<boolean> => (await workers()).some(({ pid }) => pid !== worker!.pid);
  await expect.poll(successor, { timeout: 60_000 }).toBe(true);

  expect(await ended(spawnUp(folder))).toEqual({
    code: 1,
    said: expect.stringContaining('in use by another ntaa') as string,
  });

  expect(await stop({ launcher })).toBe(0);
  expect(await commandLines()).toEqual([]);
  await expect(fetch(url)).rejects.toThrow();
  expect((await readdir(folder)).sort()).toEqual(['api-key', 'objects', 'postgres']);
}, 240_000);

it('takes everything along when it is killed, and starts again on the same folder', async () => {
  const launcher = spawnUp(folder);
  await running(launcher);
  for (const part of ['api/lib/server.js', 'worker/lib/main.js', 'bin/postgres'])
    expect((await commandLines()).join('\n')).toContain(part);
  launcher.kill('SIGKILL');
  // The database, too, which is no child of the children.
  await expect.poll(commandLines, { timeout: 30_000 }).toEqual([]);

  const again = spawnUp(folder);
  expect((await running(again))['API key']).toMatch(/^kept in/);
  const exit = once(again, 'exit');
  again.kill('SIGTERM');
  expect(await exit).toEqual([0, null]);
  expect(await commandLines()).toEqual([]);
}, 240_000);

it('takes everything along, without a word, when it is killed while it starts', async () => {
  const launcher = spawnUp(folder);
  const end = ended(launcher);
  const worker = async (): Promise<string> => (await commandLines()).join('\n');
  await expect.poll(worker, { timeout: 60_000 }).toContain('worker/lib/main.js');
  launcher.kill('SIGKILL');
  expect(await end).toEqual({ code: null, said: '' });
  await expect.poll(commandLines, { timeout: 30_000 }).toEqual([]);
}, 120_000);

it('says what is wrong in one message and leaves nothing', async () => {
  const taken = await silentServer();
  await writeFile(join(folder, 'file'), '');
  const usable = join(folder, 'usable');
  for (const [settings, message] of [
    [{ PORT: String(taken.port) }, /^Port \d+ on 127\.0\.0\.1 is in use/],
    [{ PORT: 'x', NTAA_ENGINE: 'abacus' }, /PORT[^]*NTAA_ENGINE/],
    [{ NTAA_DATA_DIR: '/proc/nope' }, /^NTAA_DATA_DIR \/proc\/nope cannot be used: no folder/],
    [{ NTAA_DATA_DIR: join(folder, 'file') }, /^NTAA_DATA_DIR .* cannot be used: a file/],
  ] as const) {
    const { code, said } = await ended(spawnUp(usable, settings));
    expect(said.trim()).toMatch(message);
    expect(said).not.toMatch(/\n {4}at /);
    expect(code).toBe(1);
    expect(await readdir(folder)).toEqual(['file']);
  }
  taken.server.close();
}, 60_000);

it('says in one line which server cannot be used, why, and what to do; never a password', async () => {
  const postgres = await startStack();
  const silent = await silentServer();
  const DATABASE_URL = postgres.databaseUrl;
  const s3 = { S3_BUCKET: 'models', AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'hunter2' };
  for (const [settings, message] of [
    [
      { DATABASE_URL: DATABASE_URL.replace(/:[^:@]+@/, ':hunter2@') },
      /^Postgres at 127\.0\.0\.1:\d+ \(DATABASE_URL\) cannot be used: it refuses .* Correct .* DATABASE_URL\.$/,
    ],
    [
      { DATABASE_URL, REDIS_URL: 'redis://:hunter2@127.0.0.1:1' },
      /^Redis at 127\.0\.0\.1:1 \(REDIS_URL\) cannot be used: nothing listens there\. .*REDIS_URL\.$/,
    ],
    [
      { DATABASE_URL, ...s3, S3_ENDPOINT: `http://127.0.0.1:${silent.port}` },
      /^S3 bucket models at 127\.0\.0\.1:\d+ \(S3_ENDPOINT\) cannot be used: it does not answer\. .*\.$/,
    ],
  ] as const) {
    const { code, said } = await ended(spawnUp(folder, settings));
    expect(said.trim()).toMatch(message);
    expect(said).not.toContain('hunter2');
    expect(code).toBe(1);
    expect(await commandLines()).toEqual([]);
    expect(await readdir(folder)).toEqual(['api-key']);
  }
  silent.server.close();
  await postgres.close();
}, 120_000);
