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
    async others(id, engine) {
      // Workers are called HOST-PID.
      const [found] = await db.$queryRaw<{ here: number; elsewhere: number }[]>`
        SELECT (count(*) FILTER (WHERE same))::int AS here, (count(*) FILTER (WHERE NOT same))::int AS elsewhere
        FROM (
          SELECT regexp_replace(id, '-[0-9]+$', '') = regexp_replace(${id}, '-[0-9]+$', '') AS same FROM workers
          WHERE id <> ${id} AND engine->>'name' = ${engine}
            AND seen_at > now() - ${WORKER_SEEN_MS} * interval '1 millisecond'
        ) AS w`;
      return found!;
    },
    async engines() {
      const rows = await db.$queryRaw<{ engine: WorkerEngine }[]>`
        SELECT DISTINCT engine FROM workers
        WHERE seen_at > now() - ${WORKER_SEEN_MS} * interval '1 millisecond' ORDER BY engine`;
      return rows.map(({ engine }) => engine);
    },
  };
}
