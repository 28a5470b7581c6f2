// Process entry of a worker. Ends on SIGTERM, when its launcher is gone, and, started by hand, on Ctrl-C.
import { hostname } from 'node:os';
import { join } from 'node:path';
import { ConfigError, parseConfig, type Config } from '@ntaa/config';
import { openDatabase } from '@ntaa/db';
import { openQueue } from '@ntaa/queue';
import { openStore } from '@ntaa/storage';
import { pino } from 'pino';
import { registerEngine } from './register-engine.js';
import { startSupervisor } from './supervisor.js';

/** Everything must have ended by then, ms. */
const EXIT_LIMIT = 10_000;

/** Resolves when this process is asked to end. A launcher (IPC parent) alone decides about Ctrl-C. */
const asked = new Promise<string>((resolve) => {
  process.on('SIGTERM', () => resolve('SIGTERM'));
  process.on('disconnect', () => resolve('its launcher is gone'));
  process.on('SIGINT', () => {
    if (!process.connected) resolve('SIGINT');
  });
});

await run(configOrExit());
process.exit(0);

async function run(config: Config): Promise<void> {
  const log = pino({ level: config.logLevel, base: { app: 'worker', pid: process.pid } });
  const databaseUrl = config.databaseUrl;
  if (databaseUrl === null) {
    log.fatal('DATABASE_URL is not set: a worker needs one (npm start sets it for its own workers)');
    process.exit(1);
  }
  const onError = (error: Error): void => log.warn({ error }, 'connection trouble');
  const db = await openDatabase(databaseUrl, { connections: 4, onError });
  const queue = await openQueue({ databaseUrl, redisUrl: config.redisUrl, onError });
  const store = await openStore(config);
  const engine = await registerEngine(db, config.engine).catch((error: Error) => {
    log.fatal(error.message);
    process.exit(1);
  });
  const worker = `${hostname()}-${process.pid}`;
  const scratch = join(config.dataDir, 'scratch');
  const supervisor = await startSupervisor({ config, db, store, log, worker, scratch }, queue);
  log.info({ queue: queue.backend, engine: engine.name }, 'worker ready');
  process.send?.({ type: 'ready', engine: engine.name });

  log.info({ reason: await asked }, 'worker ending');
  // A server that does not answer any more must not keep this process: leases expire by themselves.
  setTimeout(() => process.exit(1), EXIT_LIMIT).unref();
  await supervisor.close();
  await queue.close();
  await store.close();
  await db.close();
}

function configOrExit(): Config {
  try {
    return parseConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(error.message);
    process.exit(1);
  }
}
