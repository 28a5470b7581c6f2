import type { Client } from './client.js';
import { WORKER_SEEN_MS, type WorkerEngine, type Workers } from './types.js';

/** All by the database's clock. */
export function workers(db: Client): Workers {
  return {
    async present(id, engine) {
      await db.$transaction([
        db.$executeRaw`
          INSERT INTO workers (id, engine) VALUES (${id}, ${JSON.stringify(engine)}::jsonb)
          ON CONFLICT (id) DO UPDATE SET engine = EXCLUDED.engine, seen_at = now()`,
        // Those that were killed said nothing.
        db.$executeRaw`DELETE FROM workers WHERE seen_at < now() - interval '1 day'`,
      ]);
    },
    async gone(id) {
      await db.worker.deleteMany({ where: { id } });
    },
    async engines() {
      const rows = await db.$queryRaw<{ engine: WorkerEngine }[]>`
        SELECT DISTINCT engine FROM workers
        WHERE seen_at > now() - ${WORKER_SEEN_MS} * interval '1 millisecond' ORDER BY engine`;
      return rows.map(({ engine }) => engine);
    },
  };
}
