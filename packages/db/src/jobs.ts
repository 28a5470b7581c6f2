/** Jobs as users see them. The worker's side is in leases.ts. */
import { newId, transition, type JobStatus, type Progress } from '@ntaa/contracts';
import { Prisma } from './generated/client.js';
import { json, type Client, type Tx } from './client.js';
import { answerOnce } from './idempotency.js';
import { enqueue, runEntry } from './outbox.js';
import { newestFirst, pageOf, take } from './page.js';
import { requireRoom } from './quotas.js';
import { toCandidate, toJob, toJobEvent, type JobRow } from './rows.js';
import { addEvents, finish, requeue, setStatus } from './transitions.js';
import { UnknownCursor, type Jobs } from './types.js';

type UserSide = Pick<Jobs, 'create' | 'get' | 'list' | 'action' | 'events' | 'candidates' | 'counts'>;
const WAITING: Progress = { fraction: 0, eta_seconds: null, message: 'Waiting for a worker' };

/** Places in the queue, from 1, of those of the jobs that wait in it. */
async function queuePositions(db: Client | Tx, jobs: readonly JobRow[]): Promise<Map<string, number>> {
  const ids = jobs.filter((job) => job.status === 'queued').map((job) => job.id);
  if (ids.length === 0) return new Map();
  const rows = await db.$queryRaw<{ id: string; position: number }[]>`
    SELECT id, position::int FROM (
      SELECT id, row_number() OVER (ORDER BY queued_at, id) AS position FROM jobs WHERE status = 'queued'
    ) AS queue WHERE id IN (${Prisma.join(ids)})`;
  return new Map(rows.map(({ id, position }) => [id, position]));
}

export function jobs(db: Client): UserSide {
  /** The cursor of a list of candidates is the `order` of one of them. */
  async function candidateOrder(jobId: string, cursor: string | undefined): Promise<bigint> {
    if (cursor === undefined) return 0n;
    const order = /^\d{1,18}$/.test(cursor) ? BigInt(cursor) : 0n;
    if ((await db.candidate.count({ where: { jobId, order } })) === 0) throw new UnknownCursor();
    return order;
  }

  async function present(from: Client | Tx, row: JobRow) {
    return toJob(row, (await queuePositions(from, [row])).get(row.id) ?? null);
  }

  return {
    create(tenant, request, once) {
      return db.$transaction(async (tx) => {
        const found = await tx.$queryRaw<{ status: string }[]>`
          SELECT status FROM datasets WHERE id = ${request.dataset} AND tenant_id = ${tenant} FOR SHARE`;
        if (!found[0]) return 'dataset-missing';
        if (found[0].status !== 'ready') return 'dataset-not-ready';
        const source = request.kind === 'adapt' ? request.source_dataset : undefined;
        if (source !== undefined) {
          const other = await tx.$queryRaw<{ status: string }[]>`
            SELECT status FROM datasets WHERE id = ${source} AND tenant_id = ${tenant} FOR SHARE`;
          if (!other[0]) return 'dataset-missing';
          if (other[0].status !== 'ready') return 'dataset-not-ready';
        }
        await requireRoom(tx, tenant, { concurrent_jobs: 1, compute_seconds_per_month: 0 });
        const row = await tx.job.create({
          data: {
            id: newId('job'),
            tenantId: tenant,
            kind: request.kind,
            task: request.kind === 'adapt' ? request.task : null,
            datasetId: request.dataset,
            request: json(request),
            progress: json(WAITING),
          },
        });
        await addEvents(tx, row, [{ type: 'status', data: { status: 'queued', attempt: 0 } }]);
        await enqueue(tx, tenant, runEntry(row.id, 0));
        return answerOnce(tx, once, await present(tx, row));
      });
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
      const positions = await queuePositions(db, rows);
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
      const job = await db.job.findFirst({ where: { id, tenantId: tenant }, select: { lastSeq: true } });
      if (!job) return null;
      if (after > job.lastSeq) throw new UnknownCursor();
      const taken = take({ limit }, 100, 1000);
      const where = { jobId: id, seq: { gt: after } };
      const rows = await db.jobEvent.findMany({ where, orderBy: { seq: 'asc' }, take: taken });
      return pageOf(rows, taken, (row) => String(row.seq), toJobEvent);
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
