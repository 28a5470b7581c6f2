/** Jobs as users see them. The worker's side is in leases.ts. */
import { newId, transition, type Job, type JobStatus, type Progress } from '@ntaa/contracts';
import { type Client, type Tx } from './client.js';
import type { Direct, Queries } from './direct.js';
import { runEntry } from './outbox.js';
import { newestFirst, pageOf, take } from './page.js';
import { farFromLimits, requireRoom } from './quotas.js';
import { toCandidate, toJob, toJobEvent, type EventRow, type JobRow } from './rows.js';
import { finish, requeue, setStatus } from './transitions.js';
import { QueueEnd, queuePositions } from './turns.js';
import { KeyLost, UnknownCursor, type Jobs } from './types.js';

type UserSide = Pick<Jobs, 'create' | 'get' | 'list' | 'action' | 'events' | 'candidates' | 'counts'>;
const WAITING: Progress = { fraction: 0, eta_seconds: null, message: 'Waiting for a worker' };
/** The columns of a job that nobody has worked on. */
const NEW = {
  ...{ status: 'queued', stage: null, attempt: 0, progress: WAITING, result: null, error: null },
  ...{ startedAt: null, finishedAt: null, stopReason: null },
};
interface Made {
  readonly found: number;
  readonly ready: number;
  readonly enough: boolean;
  /** null: it was not made. */
  readonly created_at: Date | null;
}
type Refusal = 'dataset-missing' | 'dataset-not-ready';

const waiting = (rows: readonly JobRow[]): string[] =>
  rows.filter(({ status }) => status === 'queued').map(({ id }) => id);

export function jobs(db: Client, sql: Direct): UserSide {
  const queueEnd = new QueueEnd();
  /** Tenants with quotas, as far as was seen: they are asked for at once. */
  const limited = new Set<string>();

  /** The cursor of a list of candidates is the `order` of one of them. */
  async function candidateOrder(jobId: string, cursor: string | undefined): Promise<bigint> {
    if (cursor === undefined) return 0n;
    const order = /^\d{1,18}$/.test(cursor) ? BigInt(cursor) : 0n;
    if ((await db.candidate.count({ where: { jobId, order } })) === 0) throw new UnknownCursor();
    return order;
  }

  async function present(from: Client | Tx, row: JobRow) {
    return toJob(row, (await queuePositions(from, waiting([row]))).get(row.id) ?? null);
  }

  return {
    async create(tenant, request, once, traceparent = null) {
      const source = request.kind === 'adapt' ? request.source_dataset : undefined;
      const needed = source === undefined ? [request.dataset] : [request.dataset, source];
      const id = newId('job');
      const task = request.kind === 'adapt' ? request.task : null;
      const priority = request.priority ?? 0;
      const entry = runEntry(id, 0);
      const place = await queueEnd.place(sql, tenant, priority);
      const jobOf = (createdAt: Date): Job =>
        toJob({ ...NEW, id, kind: request.kind, task, request, createdAt }, place);
      // When it was made is the database's to say.
      const answer = once?.answer(jobOf(new Date(0)));
      const { key, route, since } = once?.claim ?? { key: null, route: null, since: null };

      /** One statement, and so one transaction, for the job, its first event, its way to the queue and its answer. */
      async function make(on: Queries, hasRoom: boolean): Promise<Job | Refusal | 'limited'> {
        const [made] = await on.$queryRaw<Made[]>`
          WITH used AS (
            SELECT status FROM datasets WHERE id = ANY(${needed}::text[]) AND tenant_id = ${tenant} FOR SHARE
          ), counted AS (
            SELECT count(*)::int AS found, (count(*) FILTER (WHERE status = 'ready'))::int AS ready FROM used
          ), room AS (
            SELECT ${hasRoom}::boolean OR NOT EXISTS (
              SELECT 1 FROM tenants
              WHERE id = ${tenant} AND limits ?| '{concurrent_jobs,compute_seconds_per_month}'
            ) AS enough
          ), allowed AS (
            SELECT 1 AS one FROM counted, room WHERE ready = ${needed.length} AND enough
          ), answered AS (
            UPDATE idempotency_keys SET status = ${answer?.status ?? null}::int,
              response = jsonb_set(${JSON.stringify(answer ?? {})}::jsonb, '{body,created_at}',
                to_jsonb(to_char(now()::timestamptz(3) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')))
            FROM allowed
            WHERE tenant_id = ${tenant} AND key = ${key} AND route = ${route}
              AND created_at = ${since?.toISOString() ?? null}::timestamptz AND response IS NULL
            RETURNING key
          ), job AS (
            INSERT INTO jobs (id, tenant_id, kind, task, dataset_id, priority, request, progress, last_seq, traceparent)
            SELECT ${id}, ${tenant}, ${request.kind}, ${task}, ${request.dataset}, ${priority}::int,
              ${JSON.stringify(request)}::jsonb, ${JSON.stringify(WAITING)}::jsonb, 1, ${traceparent}
            FROM allowed WHERE ${once === undefined}::boolean OR EXISTS (SELECT 1 FROM answered)
            RETURNING *
          ), event AS (
            INSERT INTO job_events (job_id, tenant_id, seq, type, data)
            SELECT id, tenant_id, 1, 'status', '{"status": "queued", "attempt": 0}' FROM job
          ), entry AS (
            INSERT INTO outbox (tenant_id, name, payload, dedupe)
            SELECT tenant_id, ${entry.name}, ${JSON.stringify(entry.payload)}::jsonb, ${entry.dedupe} FROM job
          )
          SELECT found, ready, enough, job.created_at FROM counted CROSS JOIN room LEFT JOIN job ON true`;
        const { found, ready, enough, created_at: createdAt } = made!;
        if (found < needed.length) return 'dataset-missing';
        if (ready < needed.length) return 'dataset-not-ready';
        if (!enough) return 'limited';
        if (createdAt === null) throw new KeyLost(once!.claim);
        return jobOf(createdAt);
      }

      if (!limited.has(tenant)) {
        const made = await make(sql, false);
        if (made !== 'limited') return made;
        limited.add(tenant);
      }
      const far = await farFromLimits(sql, tenant);
      if (far === null) limited.delete(tenant);
      const made =
        far !== false
          ? await make(sql, true)
          : await sql.transaction(async (tx) => {
              await requireRoom(tx, tenant, { concurrent_jobs: 1, compute_seconds_per_month: 0 });
              return make(tx, true);
            });
      return made as Job | Refusal;
    },

    async get(tenant, id) {
      const row = await db.job.findFirst({ where: { id, tenantId: tenant } });
      return row && present(db, row);
    },

    async list(tenant, options = {}) {
      const query = await newestFirst(tenant, options, (id) =>
        db.job.count({ where: { id, tenantId: tenant } }),
      );
      const status = options.status === undefined ? [] : [options.status].flat();
      const where = {
        ...query.where,
        ...(status.length > 0 ? { status: { in: status } } : {}),
        ...(options.kind ? { kind: options.kind } : {}),
      };
      const rows = await db.job.findMany({ ...query, where });
      const positions = await queuePositions(db, waiting(rows));
      return pageOf(
        rows,
        query.take,
        (row) => row.id,
        (row) => toJob(row, positions.get(row.id) ?? null),
      );
    },

    action(tenant, id, action) {
      return db.$transaction(async (tx) => {
        await tx.$queryRaw`SELECT id FROM jobs WHERE id = ${id} FOR UPDATE`;
        const job = await tx.job.findFirst({ where: { id, tenantId: tenant } });
        if (!job) return 'missing';
        const next = transition(action, job.status as JobStatus);
        if (next === null) return { illegal: job.status as JobStatus };
        if (next !== 'same') await moveTo(tx, job, next);
        return {
          job: await present(tx, await tx.job.findUniqueOrThrow({ where: { id } })),
          changed: next !== 'same',
        };
      });
    },

    async events(tenant, id, { after = 0, limit } = {}) {
      const taken = take({ limit }, 100, 1000);
      // The job's row comes without an event, too.
      const rows = await sql.$queryRaw<(EventRow & { last: number })[]>`
        SELECT j.last_seq AS last, e.seq, e.type, e.data, e.created_at AS "createdAt"
        FROM jobs j LEFT JOIN LATERAL (
          SELECT * FROM job_events WHERE job_id = j.id AND seq > ${after} ORDER BY seq LIMIT ${taken}
        ) AS e ON true
        WHERE j.id = ${id} AND j.tenant_id = ${tenant} ORDER BY e.seq`;
      if (!rows[0]) return null;
      if (after > rows[0].last) throw new UnknownCursor();
      const events = rows.filter(({ seq }) => seq !== null);
      return pageOf(events, taken, (row) => String(row.seq), toJobEvent);
    },

    async candidates(tenant, id, options = {}) {
      if ((await db.job.count({ where: { id, tenantId: tenant } })) === 0) return null;
      const taken = take(options);
      const after = await candidateOrder(id, options.after);
      const pareto = options.pareto === undefined ? {} : { pareto: options.pareto };
      const where = { jobId: id, order: { gt: after }, ...pareto };
      const rows = await db.candidate.findMany({ where, orderBy: { order: 'asc' }, take: taken });
      return pageOf(rows, taken, (row) => String(row.order), toCandidate);
    },

    async counts() {
      const groups = await db.job.groupBy({ by: ['status'], _count: { _all: true } });
      return Object.fromEntries(groups.map((group) => [group.status, group._count._all]));
    },
  };
}

/** Carries out a legal transition asked for by the user. */
async function moveTo(tx: Tx, job: JobRow, next: JobStatus): Promise<void> {
  // Nobody works on a `stopping` job between two attempts: its end needs no worker's consent.
  if (next === 'cancelled' || (next === 'cancelling' && job.leaseToken === null))
    await finish(tx, job, 'cancelled');
  else if (next === 'queued') await requeue(tx, job);
  else await setStatus(tx, job, next);
}
