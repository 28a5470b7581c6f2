/** The service on one machine as operators run it on many: every part a process that can be killed and comes back. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, chmodSync, constants, createWriteStream, mkdirSync, readdirSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { deadline, stops } from './clock.mjs';
import { startProxy } from './proxy.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const BUCKET = 'ntaa-chaos';
const ACCESS = { AWS_ACCESS_KEY_ID: 'chaos-access', AWS_SECRET_ACCESS_KEY: 'chaos-secret-key' };
const KEY = 'ntaa_chaos_admin_key_0123456789';
/** Pause before a process that ended is started again, ms. */
const RESTART_MS = 500;

/** Newest installed Postgres, or null. */
function postgresBinaries() {
  const base = '/usr/lib/postgresql';
  try {
    const [newest] = readdirSync(base).sort((a, b) => Number(b) - Number(a));
    return newest === undefined ? null : join(base, newest, 'bin');
  } catch {
    return null;
  }
}

function gateway() {
  const folders = [join(root, '.cache/bin'), ...(process.env.PATH ?? '').split(delimiter)];
  return folders.map((folder) => join(folder, 'versitygw')).find(isExecutable) ?? null;
}
function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** What a machine lacks to run this. */
export function missingServers() {
  return [
    ...(postgresBinaries() ? [] : ['Postgres']),
    ...(spawnSync('redis-server', ['--version']).status === 0 ? [] : ['redis-server']),
    ...(gateway() ? [] : ['an S3 server']),
  ];
}

/** Ends a program that cannot run without them, saying what to do. */
export function requireServers() {
  const missing = missingServers();
  if (missing.length === 0) return;
  console.log(`Not here: ${missing.join(', ')}. Run scripts/test-services.sh.`);
  process.exit(2);
}

async function freePorts(n) {
  const probes = Array.from({ length: n }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(probes.map((probe) => once(probe, 'listening')));
  const ports = probes.map((probe) => probe.address().port);
  await Promise.all(probes.map((probe) => new Promise((closed) => probe.close(closed))));
  return ports;
}

const everyone = new Set();
process.on('exit', () => everyone.forEach((part) => part.child?.kill('SIGKILL')));

/** A process that is started again whenever it ends, until it is stopped. */
class Part {
  #wanted = true;
  #options;
  /** Times it was started. */
  starts = 0;
  child = null;

  /** `ready(child)`: resolves when it can be used; `command()`: what to spawn. */
  constructor(name, options) {
    this.name = name;
    this.#options = options;
    everyone.add(this);
    this.#start();
  }
  #start() {
    const { command, args, log, ready, ...options } = this.#options;
    const child = spawn(command, args, options);
    this.child = child;
    this.starts += 1;
    this.ready = ready(child);
    this.ready.catch(() => undefined);
    for (const stream of [child.stdout, child.stderr]) stream?.pipe(log, { end: false });
    this.gone = once(child, 'exit').then(([code, signal]) => {
      log.write(`--- ${this.name} ended: ${signal ?? code}\n`);
      if (!this.#wanted) return { code, signal };
      this.restart = sleep(RESTART_MS).then(() => this.#wanted && this.#start());
      return { code, signal };
    });
  }
  get pid() {
    return this.child.pid;
  }
  get alive() {
    return this.child.exitCode === null && this.child.signalCode === null;
  }
  /** Resolves when it runs, be it after restarts. */
  async usable(limitMs = 60_000) {
    for (const late = deadline(limitMs); !late();) {
      const child = this.child;
      const up = await Promise.race([this.ready.then(() => true), this.gone.then(() => false)]).catch(
        () => false,
      );
      if (up && child === this.child && this.alive) return;
      await sleep(100);
    }
    throw new Error(`${this.name} does not come up again`);
  }
  /** Asks it to end; resolves with its exit code, or the signal that it took. */
  async stop(signal = 'SIGTERM', graceMs = 15_000) {
    this.#wanted = false;
    await this.restart;
    const before = stops();
    if (this.alive) {
      const late = deadline(graceMs);
      const force = setInterval(() => late() && this.child.kill('SIGKILL'), 200);
      this.child.kill(signal);
      await this.gone;
      clearInterval(force);
    }
    everyone.delete(this);
    // Its own limits went on while all of this was stopped: how it ended says nothing.
    return stops() === before ? (this.child.signalCode ?? this.child.exitCode) : 0;
  }
}

/** Resolves once something accepts connections on `port`. */
async function listens(port) {
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const up = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (up) return;
    await sleep(30);
  }
}
/** Resolves once the process has told its launcher, us, that it is ready. */
const tells = (child) =>
  new Promise((done, fail) => {
    child.on('message', ({ type, message }) => (type === 'failed' ? fail(new Error(message)) : done()));
  });

/**
 * @param folder an empty one; everything is kept in it. `durable`: commits wait for the disk; `apiFlags`: Node's, for the
 *   API servers; `statements`: Postgres counts them; `worker`: variables of a worker, by its place.
 */
export async function startStack(
  folder,
  {
    apis = 2,
    workers = 2,
    durable = false,
    statements = false,
    apiFlags = [],
    worker: workerEnv = () => ({}),
  } = {},
) {
  chmodSync(folder, 0o755);
  const [pgPort, redisPort, s3Port, proxyPort, ...apiPorts] = await freePorts(4 + apis);
  const logs = join(folder, 'logs');
  const kills = join(folder, 'kill-points');
  for (const path of [
    logs,
    kills,
    join(folder, 'redis'),
    join(folder, 's3', BUCKET),
    join(folder, 'sidecar'),
  ])
    mkdirSync(path, { recursive: true });
  const log = (name) => createWriteStream(join(logs, `${name}.log`), { flags: 'a' });
  const piped = { stdio: ['ignore', 'pipe', 'pipe'] };

  const postgres = startPostgres(folder, pgPort, log, { durable, statements });
  const redisArgs = ['--port', redisPort, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'yes', '--dir', join(folder, 'redis')]; // prettier-ignore
  const redis = new Part('redis', {
    ...{
      command: 'redis-server',
      args: redisArgs.map(String),
      log: log('redis'),
      ready: () => listens(redisPort),
    },
    ...piped,
  });
  const s3 = new Part('s3', {
    command: gateway(),
    args: ['--port', `127.0.0.1:${s3Port}`, '--access', ACCESS.AWS_ACCESS_KEY_ID, '--secret', ACCESS.AWS_SECRET_ACCESS_KEY, '--quiet', 'posix', '--sidecar', join(folder, 'sidecar'), join(folder, 's3')], // prettier-ignore
    ...{ log: log('s3'), ready: () => listens(s3Port), ...piped },
  });
  await Promise.all([postgres.usable(), redis.usable(), s3.usable()]);
  const proxy = await startProxy(proxyPort, s3Port);
  const databaseUrl = `postgres://postgres@127.0.0.1:${pgPort}/postgres`;
  const env = {
    ...{ PATH: process.env.PATH, HOME: process.env.HOME, NTAA_ENGINE: 'wasm', NTAA_LOG_LEVEL: 'info' },
    ...{ DATABASE_URL: databaseUrl, REDIS_URL: `redis://127.0.0.1:${redisPort}`, NTAA_API_KEY: KEY },
    ...{ S3_BUCKET: BUCKET, S3_ENDPOINT: `http://127.0.0.1:${proxyPort}`, S3_REGION: 'us-east-1', ...ACCESS },
    NTAA_CHAOS_KILL: kills,
    // So that a small archive has several parts.
    NTAA_MAX_UPLOAD_BYTES: String(5 * 2 ** 20),
    // So that one can measure what tracing costs.
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith('OTEL_'))),
  };
  const node = (name, script, more, flags = []) =>
    new Part(name, {
      ...{ command: process.execPath, args: [...flags, join(root, script)], log: log(name), ready: tells },
      ...{ stdio: ['ignore', 'pipe', 'pipe', 'ipc'] },
      env: { ...env, NTAA_DATA_DIR: join(folder, name), ...more },
    });
  const api = apiPorts.map((port, i) =>
    node(`api-${i + 1}`, 'apps/api/lib/server.js', { PORT: String(port) }, apiFlags),
  );
  await Promise.all(api.map((part) => part.usable()));
  const worker = Array.from({ length: workers }, (_, i) =>
    node(`worker-${i + 1}`, 'apps/worker/lib/main.js', workerEnv(i)),
  );
  await Promise.all(worker.map((part) => part.usable()));
  const parts = { postgres, redis, s3, api, worker };
  let workersEnded;
  const stopWorkers = () => (workersEnded ??= end(worker));
  return {
    ...{ folder, logs, kills, parts, proxy, databaseUrl, redisPort, key: KEY },
    urls: apiPorts.map((port) => `http://127.0.0.1:${port}`),
    /** The bucket itself, not by way of the proxy. */
    bucket: {
      ...{ bucket: BUCKET, endpoint: `http://127.0.0.1:${s3Port}`, region: 'us-east-1' },
      credentials: { accessKeyId: ACCESS.AWS_ACCESS_KEY_ID, secretAccessKey: ACCESS.AWS_SECRET_ACCESS_KEY },
    },
    scratch: worker.map(({ name }) => join(folder, name, 'scratch')),
    /** Resolves with how each worker ended. */
    stopWorkers,
    /** Ends service, then servers. Resolves with how each process of the service ended. */
    async stop() {
      const [workers, apis] = await Promise.all([stopWorkers(), end(api)]);
      proxy.close();
      await Promise.all([postgres.stop('SIGINT'), redis.stop(), s3.stop()]);
      return { ...workers, ...apis };
    },
  };
}

/** How each of them ended that was asked to, by name. */
async function end(parts) {
  for (const part of parts) part.child.kill('SIGCONT');
  return Object.fromEntries(await Promise.all(parts.map(async (part) => [part.name, await part.stop()])));
}

/** It refuses to run as root: there, it runs as the user that its package made. */
function startPostgres(folder, port, log, { durable, statements }) {
  const binaries = postgresBinaries();
  const data = join(folder, 'postgres');
  mkdirSync(data);
  const ids = process.getuid() === 0 ? userIds('postgres') : {};
  if (ids.uid !== undefined) spawnSync('chown', [`${ids.uid}:${ids.gid}`, data]);
  const made = spawnSync(join(binaries, 'initdb'), ['--pgdata', data, '--username=postgres', '--auth=trust', '--no-sync', '--encoding=UTF8', '--locale=C'], { ...ids, cwd: '/', encoding: 'utf8' }); // prettier-ignore
  if (made.status !== 0) throw new Error(`initdb: ${made.stderr}`);
  // A commit must outlive the server's immediate end, which is not the machine's: faults need no sync.
  const settings = {
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    fsync: durable ? 'on' : 'off',
    max_connections: 100,
    ...(statements && { shared_preload_libraries: 'pg_stat_statements' }),
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const ready = (child) =>
    new Promise((done) => {
      child.stderr.on('data', (text) => String(text).includes('ready to accept connections') && done());
    });
  return new Part('postgres', {
    ...{ command: join(binaries, 'postgres'), args: ['-D', data, ...flags], log: log('postgres'), ready },
    ...{ ...ids, cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] },
  });
}

function userIds(name) {
  const number = (flag) => Number(spawnSync('id', [flag, name], { encoding: 'utf8' }).stdout);
  return { uid: number('-u'), gid: number('-g') };
}
