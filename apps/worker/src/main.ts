// Process entry of a worker. Ends on SIGTERM, when its launcher is gone, and, started by hand, on Ctrl-C.
import { hostname } from 'node:os';
import { join } from 'node:path';
import {
  databaseOf,
  failStart,
  makeDataFolder,
  openDependency,
  processConfig,
  queueOf,
  StartError,
  storageOf,
  tellLauncher,
  visibleGpus,
  whenOrphaned,
  withoutSecrets,
} from '@ntaa/config';
import { openDatabase } from '@ntaa/db';
import { openQueue } from '@ntaa/queue';
import { openStore } from '@ntaa/storage';
import { openTracing } from '@ntaa/tracing';
import { pino } from 'pino';
import { announce } from './presence.js';
import { registerEngine } from './register-engine.js';
import { startSupervisor } from './supervisor.js';

/** Everything must have ended by then, ms. */
const EXIT_LIMIT = 10_000;

/** Resolves when this process is asked to end. A launcher (IPC parent) alone decides about Ctrl-C. */
const asked = new Promise<string>((resolve) => {
  process.on('SIGTERM', () => resolve('SIGTERM'));
  whenOrphaned(() => resolve('its launcher is gone'));
  process.on('SIGINT', () => {
    if (!process.connected) resolve('SIGINT');
  });
});
let working = false;
void asked.then(() => {
  // Nothing to save yet.
  if (!working) process.exit(0);
});

await run().catch(failStart);
process.exit(0);

async function run(): Promise<void> {
  const config = processConfig(process.env);
  const { databaseUrl, redisUrl } = config;
  const log = pino({
    level: config.logLevel,
    base: { app: 'worker', pid: process.pid },
    hooks: { streamWrite: withoutSecrets },
  });
  const warn = (message: string): void => log.warn(message);
  const worker = `${hostname()}-${process.pid}`;
  const tracing = await openTracing(config.tracing, { name: 'ntaa-worker', instance: worker }, warn);
  await makeDataFolder(config.dataDir);
  const db = await openDependency(databaseOf(config), warn, (onError) =>
    openDatabase(databaseUrl, { connections: 4, onError }),
  );
  const queue = await openDependency(queueOf(config), warn, (onError) =>
    openQueue({ databaseUrl, redisUrl, onError }),
  );
  const store = await openDependency(storageOf(config), warn, () => openStore(config));
  const gpus = visibleGpus(process.env);
  const engine = await registerEngine(db, config.engine, gpus[0] ?? null).catch((error: Error) => {
    throw new StartError(error.message, { cause: error });
  });
  const scratch = join(config.dataDir, 'scratch');
  working = true;
  const context = { config, db, store, log, tracing, engine, worker, scratch };
  const onGpus = engine.kind === 'tensorflow-gpu' ? gpus : [];
  const supervisor = await startSupervisor({ ...context, gpus: onGpus }, queue);
  const leave = await announce(context, () => supervisor.load);
  log.info({ queue: queue.backend, engine, gpus: onGpus }, 'worker ready');
  await tellLauncher({ type: 'ready', engine });

  log.info({ reason: await asked }, 'worker ending');
  // A server that does not answer any more must not keep this process: leases expire by themselves.
  setTimeout(() => process.exit(1), EXIT_LIMIT).unref();
  await supervisor.close();
  const flushed = tracing?.close();
  await leave();
  await queue.close();
  await store.close();
  await db.close();
  await flushed;
}
