/** The steps of a job's life that both users and workers cause. All run in a transaction that has locked the row. */
import type { JobStatus, WebhookEvent } from '@ntaa/contracts';
import { Prisma } from './generated/client.js';
import { json, type Tx } from './client.js';
import { discard, jobFolder, outputFolder } from './garbage.js';
import { enqueue, runEntry } from './outbox.js';
import { dropPieces } from './pieces.js';
import type { JobRow } from './rows.js';
import { MAX_FAILURES, type Json, type NewEvent } from './types.js';
import { announce } from './webhooks.js';

/** Seconds before the attempts after a first failure, a second, …: what a job needs may be away for minutes. */
const RETRY_PAUSES = [1, 10, 30, 120];
const NO_LEASE = { leaseToken: null, leaseUntil: null, worker: null };

/** What webhooks are told of, by the status that a job takes on. */
const TOLD: Partial<Record<string, WebhookEvent>> = {
  running: 'job.started',
  paused: 'job.paused',
  succeeded: 'job.succeeded',
  failed: 'job.failed',
  cancelled: 'job.cancelled',
};

async function tell(tx: Tx, job: JobRow, { data }: NewEvent): Promise<void> {
  const type = TOLD[String(data['status'])];
  // Of attempts after the first the user need not know.
  if (!type || (type === 'job.started' && job.attempt > 1)) return;
  const { metadata = {} } = job.request as { metadata?: unknown };
  const { id, kind, task } = job;
  await announce(tx, job.tenantId, type, { id, object: 'job', kind, task, ...data, metadata });
}

/** Appends events to a job whose row is locked, numbered on from its last one. */
export async function addEvents(tx: Tx, job: JobRow, events: readonly NewEvent[]): Promise<void> {
  if (events.length === 0) return;
  const { lastSeq } = await tx.job.update({
    where: { id: job.id },
    data: { lastSeq: { increment: events.length } },
    select: { lastSeq: true },
  });
  const first = lastSeq - events.length + 1;
  await tx.jobEvent.createMany({
    data: events.map(({ type, data }, i) => ({
      jobId: job.id,
      tenantId: job.tenantId,
      seq: first + i,
      type,
      data: json(data),
    })),
  });
  for (const event of events) if (event.type === 'status') await tell(tx, job, event);
}

/** Changes status and columns, and says so in the event log. */
export async function setStatus(
  tx: Tx,
  job: JobRow,
  status: JobStatus,
  columns: Prisma.JobUpdateInput = {},
  detail: Json = {},
): Promise<void> {
  await tx.job.update({ where: { id: job.id }, data: { status, ...columns } });
  await addEvents(tx, job, [{ type: 'status', data: { status, attempt: job.attempt, ...detail } }]);
}

/**
 * Waiting for a worker (again), in so many seconds. A job being stopped stays so: its next attempt only has to finish.
 */
export async function requeue(
  tx: Tx,
  job: JobRow,
  columns: Prisma.JobUpdateInput = {},
  seconds = 0,
): Promise<void> {
  const status = job.status === 'stopping' ? 'stopping' : 'queued';
  await setStatus(tx, job, status, { ...NO_LEASE, ...columns });
  // By the database's clock, by which it is claimed.
  await tx.$executeRaw`
    UPDATE jobs SET queued_at = now() + ${seconds} * interval '1 second' WHERE id = ${job.id}`;
  await enqueue(tx, job.tenantId, runEntry(job.id, job.attempt));
}

/** The end: status and the last event, `done`. Nobody needs the checkpoints any more. */
export async function finish(
  tx: Tx,
  job: JobRow,
  status: 'cancelled' | 'succeeded' | 'failed',
  columns: Prisma.JobUpdateInput = {},
  detail: Json = {},
): Promise<void> {
  await setStatus(tx, job, status, { ...NO_LEASE, finishedAt: new Date(), ...columns }, detail);
  await addEvents(tx, job, [{ type: 'done', data: { status, ...detail } }]);
  await tx.checkpoint.deleteMany({ where: { jobId: job.id } });
  await dropPieces(tx, job.id);
  const outputs = status === 'succeeded' || job.attempt === 0 ? [] : [outputFolder(job)];
  await discard(tx, [jobFolder(job.id), ...outputs]);
}

/** What becomes of a job whose attempt has failed. */
export async function endFailedAttempt(
  tx: Tx,
  job: JobRow,
  error: { code: string; detail: string },
  { retry, pause }: { retry: boolean; pause: boolean },
): Promise<JobStatus> {
  const failures = job.failures + 1;
  if (job.status === 'cancelling') {
    await finish(tx, job, 'cancelled', { failures });
    return 'cancelled';
  }
  if (!retry || failures >= MAX_FAILURES) {
    await finish(tx, job, 'failed', { failures, error: json(error) }, { error });
    return 'failed';
  }
  await addEvents(tx, job, [{ type: 'warning', data: { ...error, failures } }]);
  return giveBack(tx, job, { failures }, pause ? RETRY_PAUSES[failures - 1] : 0);
}

/** What becomes of a job whose attempt ended unfinished: what the user wants of it, else it is queued again. */
export async function giveBack(
  tx: Tx,
  job: JobRow,
  columns: Prisma.JobUpdateInput = {},
  pause = 0,
): Promise<JobStatus> {
  if (job.status === 'cancelling') {
    await finish(tx, job, 'cancelled', columns);
    return 'cancelled';
  }
  await discard(tx, [outputFolder(job)]);
  if (job.status === 'pausing') {
    await setStatus(tx, job, 'paused', { ...NO_LEASE, ...columns });
    return 'paused';
  }
  await requeue(tx, job, columns, pause);
  return job.status === 'stopping' ? 'stopping' : 'queued';
}
