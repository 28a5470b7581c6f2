import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startEmbeddedPostgres } from './embedded.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ntaa-embedded-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function ask(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows as unknown[];
  } finally {
    await client.end();
  }
}
const serverPid = (dataDir: string) =>
  Number.parseInt(readFileSync(join(dataDir, 'cluster/postmaster.pid'), 'utf8'), 10);
/** Ended but not yet collected by its new parent (a zombie) counts as gone: it has no command line. */
const alive = (pid: number) =>
  existsSync(`/proc/${pid}`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== '';

test('starts in a private folder, keeps data over a restart and leaves no process', async () => {
  // What `mktemp -d` makes: a parent that the server's own user may not enter.
  chmodSync(folder, 0o700);
  const dataDir = join(folder, 'private', 'postgres');
  mkdirSync(join(folder, 'private'), { mode: 0o700 });
  const first = await startEmbeddedPostgres({ dataDir, ephemeral: true });
  expect(first.url).toMatch(/^postgres:\/\/ntaa:.{32}@127\.0\.0\.1:\d+\/ntaa$/);
  expect(statSync(join(dataDir, 'password')).mode & 0o777).toBe(0o600);
  await ask(first.url, 'CREATE TABLE t AS SELECT 42 AS n');
  const pid = serverPid(dataDir);
  await first.stop();
  expect(alive(pid)).toBe(false);

  // A pid file left by a crash, whose number another program has by now.
  writeFileSync(join(dataDir, 'cluster/postmaster.pid'), `${process.pid}\n/nowhere\n`);
  const second = await startEmbeddedPostgres({ dataDir, ephemeral: true });
  expect(await ask(second.url, 'SELECT n FROM t')).toEqual([{ n: 42 }]);
  await second.stop();
});

test('a wrong password is refused, and so is a second server on the folder', async () => {
  const server = await startEmbeddedPostgres({ dataDir: folder, ephemeral: true });
  try {
    await expect(ask(server.url.replace(/:[^:@]+@/, ':wrong@'), 'SELECT 1')).rejects.toThrow(/password/);
    await expect(startEmbeddedPostgres({ dataDir: folder })).rejects.toThrow(
      /already running.*NTAA_DATA_DIR/s,
    );
    expect(await ask(server.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  } finally {
    await server.stop();
  }
});

/** A service that is killed; its server. */
async function killService(use: (url: string) => Promise<unknown>): Promise<number> {
  const library = fileURLToPath(new URL('../lib/embedded.js', import.meta.url));
  const script = `const { startEmbeddedPostgres } = await import(${JSON.stringify(library)});
    const { url } = await startEmbeddedPostgres({ dataDir: process.argv[1], ephemeral: true }); console.log(url);
    setInterval(() => {}, 1000);`;
  const service = spawn(process.execPath, ['--input-type=module', '-e', script, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [url] = (await once(service.stdout, 'data')) as [Buffer];
  await use(String(url).trim());
  const orphan = serverPid(folder);
  const gone = once(service, 'exit');
  service.kill('SIGKILL');
  await gone;
  return orphan;
}

test('a killed service takes its server along', async () => {
  const orphan = await killService((url) => ask(url, 'CREATE TABLE t AS SELECT 42 AS n'));
  await expect.poll(() => alive(orphan), { timeout: 10_000 }).toBe(false);
  const server = await startEmbeddedPostgres({ dataDir: folder, ephemeral: true });
  expect(await ask(server.url, 'SELECT n FROM t')).toEqual([{ n: 42 }]);
  await server.stop();
});

test('a server that has not ended yet is replaced', async () => {
  // It waits a while for its clients.
  const orphan = await killService((url) => {
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => undefined);
    return client.connect();
  });
  expect(alive(orphan)).toBe(true);

  const server = await startEmbeddedPostgres({ dataDir: folder, ephemeral: true });
  expect(alive(orphan)).toBe(false);
  expect(await ask(server.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  await server.stop();
});
