/**
 * Jobs as workers see them. A worker holds a job by a lease: a token and a time, by the database's clock. Every write
 * first locks the row and checks both, so that a worker which slept through its lease can write nothing more.
 */
import { randomUUID } from 'node:crypto';
import { isTerminal, type Genotype, type JobRequest, type JobStatus } from '@ntaa/contracts';
import { json, type Client, type Tx } from './client.js';
import { discard, jobFolder, outputFolder } from './garbage.js';
import { insertModel } from './models.js';
import { toJob, type JobRow } from './rows.js';
import { supernetColumns } from './supernets.js';
import { nextJob, served } from './turns.js';
import { addEvents, endFailedAttempt, finish, giveBack } from './transitions.js';
import {
  LeaseLost,
  type Jobs,
  type Json,
  type Lease,
  type NewEvent,
  type NewSupernet,
  type Wanted,
} from './types.js';

type UserSide = 'create' | 'get' | 'list' | 'action' | 'events' | 'candidates' | 'counts';
type WorkerSide = Omit<Jobs, UserSide>;

const WANTED: Partial<Record<string, Wanted>> = {
  running: 'run',
  stopping: 'stop',
  cancelling: 'cancel',
  pausing: 'pause',
};
const LOST = { code: 'worker-lost', detail: 'The worker stopped answering' };

export function leases(db: Client): WorkerSide {
  /** Runs `work` with the job's row locked and the lease proven; throws LeaseLost. */
  function fenced<T>(lease: Lease, work: (tx: Tx, job: JobRow) => Promise<T>): Promise<T> {
    return db.$transaction(async (tx) => {
      const held = await tx.$queryRaw<unknown[]>`
        SELECT 1 FROM jobs WHERE id = ${lease.jobId} AND lease_token = ${lease.token} AND lease_until > now()
        FOR UPDATE`;
      if (held.length === 0) throw new LeaseLost(lease);
      return work(tx, await tx.job.findUniqueOrThrow({ where: { id: lease.jobId } }));
    });
  }

  return {
    claim(wanted, worker, leaseMs) {
      return db.$transaction(async (tx) => {
        const id = wanted ?? (await nextJob(tx));
        if (id === null) return null;
        const token = randomUUID();
        const taken = await tx.$executeRaw`
          UPDATE jobs SET
            status = CASE status WHEN 'queued' THEN 'running' ELSE status END,
            attempt = attempt + 1, worker = ${worker}, started_at = coalesce(started_at, now()),
            lease_token = ${token}, lease_until = now() + ${leaseMs} * interval '1 millisecond'
          WHERE id = ${id} AND (failures = 0 OR queued_at <= now())
            AND (status = 'queued' OR (status = 'stopping' AND lease_token IS NULL))`;
        if (taken === 0) return null;
        const row = await tx.job.findUniqueOrThrow({ where: { id } });
        await served(tx, row.tenantId);
        await addEvents(tx, row, [{ type: 'status', data: { status: row.status, attempt: row.attempt } }]);
        return {
          lease: { jobId: id, token, attempt: row.attempt },
          tenant: row.tenantId,
          job: toJob(row, null),
          request: row.request as unknown as JobRequest,
          wanted: row.status === 'stopping' ? 'stop' : 'run',
          failures: row.failuresTotal === 0 ? [] : await failuresOf(tx, id),
          traceparent: row.traceparent,
        };
      });
    },

    async renew(lease, leaseMs) {
      const rows = await db.$queryRaw<{ status: string }[]>`
        UPDATE jobs SET lease_until = now() + ${leaseMs} * interval '1 millisecond'
        WHERE id = ${lease.jobId} AND lease_token = ${lease.token} AND lease_until > now() RETURNING status`;
      const wanted = rows[0] && WANTED[rows[0].status];
      if (!wanted) throw new LeaseLost(lease);
      return wanted;
    },

    progress(lease, stage, progress) {
      return fenced(lease, async (tx, job) => {
        await tx.job.update({ where: { id: job.id }, data: { stage, progress: json(progress) } });
        const events: NewEvent[] = [{ type: 'progress', data: { stage, ...progress } }];
        if (job.stage !== stage) events.unshift({ type: 'stage', data: { stage, attempt: job.attempt } });
        await addEvents(tx, job, events);
      });
    },

    appendEvents(lease, events) {
      return fenced(lease, (tx, job) => addEvents(tx, job, events));
    },

    putCandidates(lease, candidates) {
      return fenced(lease, async (tx, job) => {
        const rows = candidates.map((candidate) => ({
          key: genotypeKey(candidate.genotype),
          data: candidate,
          pareto: candidate.pareto,
          selected: candidate.selected,
        }));
        // Ordered here, so that `order`, drawn row by row, is the order of evaluation. The last of equals wins.
        const unique = [...new Map(rows.map((row) => [row.key, row])).values()];
        await tx.$executeRaw`
          INSERT INTO candidates (job_id, tenant_id, key, data, pareto, selected)
          SELECT ${job.id}, ${job.tenantId}, r->>'key', r->'data', (r->>'pareto')::bool, (r->>'selected')::bool
          FROM jsonb_array_elements(${JSON.stringify(unique)}::jsonb) WITH ORDINALITY AS t(r, n) ORDER BY n
          ON CONFLICT (job_id, key) DO UPDATE
            SET data = EXCLUDED.data, pareto = EXCLUDED.pareto, selected = EXCLUDED.selected`;
      });
    },

    commitCheckpoint(lease, checkpoint) {
      return fenced(lease, async (tx, job) => {
        const { name, key, sha256, size, data } = checkpoint;
        const where = { jobId_name: { jobId: job.id, name } };
        const before = await tx.checkpoint.findUnique({ where });
        const columns = { key, sha256, size, data: json(data), attempt: job.attempt, createdAt: new Date() };
        const create = { jobId: job.id, tenantId: job.tenantId, name, ...columns };
        await tx.checkpoint.upsert({ where, create, update: columns });
        if (before && before.key !== key) await discard(tx, [before.key]);
        // It got on: what went wrong before says nothing about what is to come.
        if (job.failures > 0) await tx.job.update({ where: { id: job.id }, data: { failures: 0 } });
      });
    },

    async checkpoints(jobId) {
      const rows = await db.checkpoint.findMany({ where: { jobId }, orderBy: { createdAt: 'asc' } });
      return rows.map(({ name, key, sha256, size, data }) => ({
        name,
        key,
        sha256,
        size: Number(size),
        data: data as Json,
      }));
    },

    succeed(lease, { result, stopReason, model, supernet }) {
      return fenced(lease, async (tx, job) => {
        if (job.status === 'cancelling') {
          await finish(tx, job, 'cancelled');
          return 'cancelled';
        }
        if (model) await insertModel(tx, job.tenantId, job.id, model);
        if (supernet) await insertSupernet(tx, job.tenantId, supernet);
        const progress = json({ fraction: 1, eta_seconds: 0, message: 'Done' });
        const columns = { result: json(result), stopReason, progress };
        await finish(tx, job, 'succeeded', columns, { stop_reason: stopReason });
        return 'succeeded';
      });
    },

    fail(lease, error, retry) {
      return fenced(lease, (tx, job) => endFailedAttempt(tx, job, error, { retry, pause: true }));
    },
    cancelled(lease) {
      return fenced(lease, (tx, job) => finish(tx, job, 'cancelled'));
    },
    release(lease) {
      return fenced(lease, (tx, job) => giveBack(tx, job));
    },

    lost({ jobId, attempt }) {
      return db.$transaction(async (tx) => {
        await tx.$queryRaw`SELECT id FROM jobs WHERE id = ${jobId} FOR UPDATE`;
        const job = await tx.job.findUnique({ where: { id: jobId } });
        if (!job || (job.status === 'succeeded' && job.attempt === attempt)) return;
        const ended = isTerminal(job.status as JobStatus);
        await discard(tx, [outputFolder({ ...job, attempt }), ...(ended ? [jobFolder(jobId)] : [])]);
      });
    },

    async reap() {
      // One transaction each: a job that cannot be taken back does not keep the others from it.
      const expired = await db.$queryRaw<{ id: string; lease_token: string }[]>`
        SELECT id, lease_token FROM jobs WHERE lease_until < now() ORDER BY lease_until`;
      const reaped: string[] = [];
      for (const { id, lease_token: token } of expired)
        if ((await reapOne(db, id, token)) !== null) reaped.push(id);
      return reaped;
    },
  };
}

/** Every failure that was followed by another attempt is in the event log. */
async function failuresOf(tx: Tx, jobId: string): Promise<string[]> {
  const rows = await tx.$queryRaw<{ code: string }[]>`
    SELECT data->>'code' AS code FROM job_events
    WHERE job_id = ${jobId} AND type = 'warning' AND data ? 'failures' ORDER BY seq`;
  return rows.map(({ code }) => code);
}

function reapOne(db: Client, id: string, token: string): Promise<JobStatus | null> {
  return db.$transaction(async (tx) => {
    const held = await tx.$queryRaw<unknown[]>`
      SELECT 1 FROM jobs WHERE id = ${id} AND lease_token = ${token} AND lease_until < now()
      FOR UPDATE SKIP LOCKED`;
    if (held.length === 0) return null;
    return endFailedAttempt(tx, await tx.job.findUniqueOrThrow({ where: { id } }), LOST, {
      retry: true,
      pause: false,
    });
  });
}

/** A name taken since the job was asked for does not lose the job's work: the end of its id is added. */
async function insertSupernet(tx: Tx, tenant: string, supernet: NewSupernet): Promise<void> {
  const taken = await tx.supernet.count({
    where: { name: supernet.name, tenantId: { in: [tenant, 'builtin'] } },
  });
  const name = taken ? `${supernet.name.slice(0, 50)}-${supernet.id.slice(-8)}` : supernet.name;
  await tx.supernet.create({
    data: { id: supernet.id, tenantId: tenant, ...supernetColumns({ ...supernet, name }) },
  });
}

/** Equal for equal genotypes, whatever the order of their properties. */
function genotypeKey({ space, resolution, stages }: Genotype): string {
  const text = stages.map((stage) => stage.map(({ kernel, expand }) => `${kernel}x${expand}`).join(','));
  return `${space}/${resolution}/${text.join(';')}`;
}
