import type { Worker, WorkerState } from '@ntaa/contracts';
import type { Client } from './client.js';
import { Prisma } from './generated/client.js';
import { pageOf, take } from './page.js';
import {
  UnknownCursor,
  WORKER_SEEN_MS,
  WORKER_STALLED_MS,
  type WorkerEngine,
  type Workers,
} from './types.js';

interface Row {
  id: string;
  state: WorkerState;
  engine: WorkerEngine;
  slots: number;
  free: number;
  idleSince: Date | null;
  seenAt: Date;
}

const ago = (milliseconds: number) => Prisma.sql`now() - ${milliseconds} * interval '1 millisecond'`;
/** A job that pauses before it is tried again does not wait. */
const STATE = Prisma.sql`
  CASE
    WHEN seen_at <= ${ago(WORKER_SEEN_MS)} THEN 'silent'
    WHEN free > 0 AND idle_since <= ${ago(WORKER_STALLED_MS)}
      AND EXISTS (SELECT 1 FROM jobs WHERE status = 'queued' AND queued_at <= ${ago(WORKER_STALLED_MS)})
      THEN 'stalled'
    WHEN free < slots THEN 'working'
    ELSE 'idle'
  END`;

function toWorker({ id, state, engine, slots, free, idleSince, seenAt }: Row): Worker {
  const times = { idle_since: idleSince?.toISOString() ?? null, seen_at: seenAt.toISOString() };
  return { id, object: 'worker', state, engine, slots, free, ...times };
}

/** All by the database's clock. */
export function workers(db: Client): Workers {
  return {
    async present(id, engine, { slots, free, idleMs }) {
      const idle = idleMs === null ? Prisma.sql`NULL` : ago(idleMs);
      await db.$transaction([
        db.$executeRaw`
          INSERT INTO workers (id, engine, slots, free, idle_since)
          VALUES (${id}, ${JSON.stringify(engine)}::jsonb, ${slots}, ${free}, ${idle})
          ON CONFLICT (id) DO UPDATE SET engine = EXCLUDED.engine, slots = EXCLUDED.slots, free = EXCLUDED.free,
            idle_since = EXCLUDED.idle_since, seen_at = now()`,
        // Those that were killed said nothing. For an hour they are there to be noticed.
        db.$executeRaw`DELETE FROM workers WHERE seen_at < now() - interval '1 hour'`,
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
            AND seen_at > ${ago(WORKER_SEEN_MS)}
        ) AS w`;
      return found!;
    },
    async engines() {
      const rows = await db.$queryRaw<{ engine: WorkerEngine }[]>`
        SELECT DISTINCT engine FROM workers WHERE seen_at > ${ago(WORKER_SEEN_MS)} ORDER BY engine`;
      return rows.map(({ engine }) => engine);
    },
    async states() {
      const rows = await db.$queryRaw<{ state: WorkerState; count: number }[]>`
        SELECT ${STATE} AS state, count(*)::int AS count FROM workers GROUP BY 1`;
      return Object.fromEntries(rows.map(({ state, count }) => [state, count]));
    },
    async list({ after, ...options } = {}) {
      if (after !== undefined && (await db.worker.count({ where: { id: after } })) === 0)
        throw new UnknownCursor();
      const taken = take(options);
      const rows = await db.$queryRaw<Row[]>`
        SELECT id, ${STATE} AS state, engine, slots, free, idle_since AS "idleSince", seen_at AS "seenAt"
        FROM workers WHERE id > ${after ?? ''} ORDER BY id LIMIT ${taken}`;
      return pageOf(rows, taken, (row) => row.id, toWorker);
    },
  };
}
