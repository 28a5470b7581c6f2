/** The API's process: opens what it stands on, listens, keeps the queue in step, and closes all of it on a signal. */
import { ConfigError, parseConfig, type Config } from '@ntaa/config';
import { openDatabase } from '@ntaa/db';
import { openQueue } from '@ntaa/queue';
import { openStore } from '@ntaa/storage';
import closeWithGrace from 'close-with-grace';
import { pino } from 'pino';
import { buildApp } from './app.js';
import { startDispatcher } from './dispatcher.js';

/** Answers in progress have so long to end before the process does, milliseconds. */
const GRACE_MS = 10_000;

function readConfig(): Config & { databaseUrl: string } {
  try {
    const config = parseConfig(process.env);
    if (config.databaseUrl === null)
      throw new ConfigError([
        'DATABASE_URL is not set: start the whole service with `npm start`, or name a database',
      ]);
    return { ...config, databaseUrl: config.databaseUrl };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}

const config = readConfig();
const logger = pino({
  level: config.logLevel,
  redact: ['req.headers.authorization', 'req.headers.cookie', 'headers.authorization', 'apiKey', 'secret'],
});
/** What was opened so far, to be closed in the opposite order. */
const opened: (() => Promise<unknown>)[] = [];
const grace = closeWithGrace({ delay: GRACE_MS, logger }, async ({ err, signal }) => {
  if (err) logger.fatal({ err }, 'closing after an error');
  else logger.info({ signal }, 'closing');
  for (const close of opened.reverse()) await close();
});
// The parent is gone: nobody would ever stop this process.
process.once('disconnect', () => void grace.close());

const onError = (err: Error) => logger.warn({ err }, 'connection trouble');
const db = await openDatabase(config.databaseUrl, { onError });
opened.push(() => db.close());
const queue = await openQueue({ databaseUrl: config.databaseUrl, redisUrl: config.redisUrl, onError });
opened.push(() => queue.close());
const store = await openStore(config);
opened.push(() => store.close());
if (config.apiKey !== null) await db.keys.ensureBootstrap(config.apiKey);

const app = await buildApp({ db, queue, store, config, logger });
opened.push(() => app.close());
const dispatcher = await startDispatcher({ db, queue, log: logger });
opened.push(() => dispatcher.close());
const url = await app.listen({
  host: config.host,
  port: config.port,
  listenTextResolver: (address) => `listening on ${address}`,
});
process.send?.({ type: 'listening', url });
