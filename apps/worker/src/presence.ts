/** Lets those who watch the service know that a worker is there, what it trains with, and what it could take. */
import { WORKER_SEEN_MS, type WorkerLoad } from '@ntaa/db';
import type { Context } from './context.js';

/** Resolves when it is known; the result ends it. What cannot be told now is told later: jobs do not depend on it. */
export async function announce(
  { db, log, worker, engine: { kind, name, reason } }: Pick<Context, 'db' | 'log' | 'worker' | 'engine'>,
  load: () => WorkerLoad,
): Promise<() => Promise<void>> {
  const tell = () =>
    db.workers
      .present(worker, { kind, name, reason }, load())
      .catch((error: unknown) => log.warn({ err: error }, 'the database does not know of this worker'));
  await tell();
  const timer = setInterval(() => void tell(), WORKER_SEEN_MS / 3);
  return async () => {
    clearInterval(timer);
    // Where the database is gone it forgets by itself.
    await db.workers.gone(worker).catch(() => undefined);
  };
}
