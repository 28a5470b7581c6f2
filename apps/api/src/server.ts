/** The API's process: opens what it stands on, listens, keeps the queue in step, and closes all of it on a signal. */
import {
  cannotListen,
  databaseOf,
  failStart,
  makeDataFolder,
  openDependency,
  processConfig,
  queueOf,
  storageOf,
  tellLauncher,
  whenOrphaned,
  withoutSecrets,
} from '@ntaa/config';
import { openDatabase } from '@ntaa/db';
import { openQueue } from '@ntaa/queue';
import { openStore } from '@ntaa/storage';
import { openTracing } from '@ntaa/tracing';
import closeWithGrace from 'close-with-grace';
import { hostname } from 'node:os';
import { pino } from 'pino';
import { buildApp } from './app.js';
import { startDispatcher } from './dispatcher.js';
import { counted, createMeters } from './meters.js';
import { startDeliveries } from './webhooks/deliveries.js';

/** To Postgres: few, and warm (docs/LOG.md, 2026-11-27). */
const CONNECTIONS = 5;
/** Lines of the log are written after so many milliseconds at the latest, and before the process ends. */
const LOG_MS = 100;
/** Answers in progress have so long to end before the process does, milliseconds. */
const GRACE_MS = 10_000;

await start().catch(failStart);

async function start(): Promise<void> {
  const config = processConfig(process.env);
  const { databaseUrl, redisUrl } = config;
  // A write for each line would wake its reader each time.
  const output = pino.destination({ dest: 1, sync: true, minLength: 8192, periodicFlush: LOG_MS });
  process.on('exit', () => {
    try {
      output.flushSync();
    } catch {
      // Nobody reads any more.
    }
  });
  const logger = pino(
    {
      level: config.logLevel,
      base: { app: 'api', pid: process.pid },
      hooks: { streamWrite: withoutSecrets },
    },
    output,
  );
  /** What was opened so far, to be closed in the opposite order. */
  const opened: (() => Promise<unknown>)[] = [];
  const grace = closeWithGrace({ delay: GRACE_MS, logger }, async ({ err, signal }) => {
    if (err) logger.fatal({ err }, 'closing after an error');
    else logger.info({ signal }, 'closing');
    for (const close of opened.reverse()) await close();
  });
  whenOrphaned(() => void grace.close());

  const warn = (message: string): void => logger.warn(message);
  const service = { name: 'ntaa-api', instance: `${hostname()}-${process.pid}` };
  const tracing = await openTracing(config.tracing, service, warn);
  // Closed last: the requests that end meanwhile belong to it.
  opened.push(async () => tracing?.close());
  if (config.s3 === null) await makeDataFolder(config.dataDir);
  const db = await openDependency(databaseOf(config), warn, (onError) =>
    openDatabase(databaseUrl, { connections: CONNECTIONS, warm: true, onError }),
  );
  opened.push(() => db.close());
  const queue = await openDependency(queueOf(config), warn, (onError) =>
    openQueue({ databaseUrl, redisUrl, onError }),
  );
  opened.push(() => queue.close());
  const meters = createMeters();
  const store = counted(await openDependency(storageOf(config), warn, () => openStore(config)), meters);
  opened.push(() => store.close());
  if (config.apiKey !== null) await db.keys.ensureBootstrap(config.apiKey);

  const app = await buildApp({ db, queue, store, config, logger, meters, tracing });
  opened.push(() => app.close());
  const dispatcher = await startDispatcher({ db, queue, log: logger, meters });
  opened.push(() => dispatcher.close());
  const deliveries = await startDeliveries({ db, queue, log: logger, meters, allow: config.webhookAllow });
  opened.push(() => deliveries.close());
  const { host, port } = config;
  const listenTextResolver = (address: string): string => `listening on ${address}`;
  const url = await app.listen({ host, port, listenTextResolver }).catch((error: unknown) => {
    throw cannotListen(config, error);
  });
  await tellLauncher({ type: 'listening', url });
}
