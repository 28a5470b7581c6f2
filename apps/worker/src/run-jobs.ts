import { setTimeout as sleep } from 'node:timers/promises';
import { killPoint } from '@ntaa/config';
import { JobError } from '@ntaa/contracts';
import { outputFolder, type Claim, type Database } from '@ntaa/db';
import type { Context } from './context.js';
import { asFailure, attemptJob, LEASE, type AttemptEnd } from './job-attempt.js';
import type { AssignedDataset, DatasetPack, JobAssignment } from './protocol.js';
import { withScratch } from './scratch.js';

/** Pause before the next attempt after a first failure, ms. Later ones pause longer: the database says how long. */
const RETRY_PAUSE = 1000;

/**
 * Handler of `job.run`, which says that some job waits: attempts the one whose turn it is, on this GPU, until it has ended, is
 * paused, or belongs to somebody else.
 */
export async function runJobs(
  context: Context & { readonly taken: () => void },
  gpu: string | null,
  shutdown: AbortSignal,
): Promise<void> {
  while (!shutdown.aborted) {
    const claim = await context.db.jobs.claim(null, context.worker, LEASE);
    if (claim === null) return;
    context.taken();
    killPoint('worker.lease-claimed');
    const end = await withScratch(context.scratch, (scratch) =>
      attempt(context, claim, { scratch, gpu }, shutdown),
    );
    if (end === 'lost') await context.db.jobs.lost(claim.lease);
    if (end !== 'queued' && end !== 'stopping') return;
    // Tried again soon, by whoever is free: this one, for instance. What the queue says of it comes while it still pauses.
    await sleep(RETRY_PAUSE, undefined, { signal: shutdown }).catch(() => undefined);
  }
}

/** Where an attempt may work. */
type Place = Pick<JobAssignment, 'scratch' | 'gpu'>;

async function attempt(
  context: Context,
  claim: Claim,
  place: Place,
  shutdown: AbortSignal,
): Promise<AttemptEnd> {
  let assignment: JobAssignment;
  try {
    assignment = await assemble(context, claim, place);
  } catch (error) {
    context.log.error({ job: claim.lease.jobId, err: error }, 'a job could not be prepared');
    const { code, detail, retryable } = asFailure(error);
    return context.db.jobs.fail(claim.lease, { code, detail }, retryable);
  }
  return attemptJob(context, claim, assignment, shutdown);
}

/** Everything the trainer has to know. */
async function assemble(context: Context, claim: Claim, place: Place): Promise<JobAssignment> {
  const { db, config } = context;
  const { request, lease, tenant } = claim;
  const dataset = await assigned(db, request.dataset);
  const source = request.kind === 'adapt' ? request.source_dataset : undefined;
  const supernet =
    request.kind === 'adapt' ? await db.supernets.stored(tenant, request.supernet ?? 'tiny') : null;
  if (request.kind === 'adapt' && supernet === null)
    throw new JobError('internal', `The supernet ${request.supernet ?? 'tiny'} is not there any more`);
  return {
    kind: 'job',
    jobId: lease.jobId,
    attempt: lease.attempt,
    startedAt: claim.job.started_at ?? new Date().toISOString(),
    request,
    wanted: claim.wanted,
    dataset,
    sourceDataset: source === undefined ? null : await assigned(db, source),
    supernet,
    checkpoints: await db.jobs.checkpoints(lease.jobId),
    outputs: outputFolder({ kind: request.kind, id: lease.jobId, attempt: lease.attempt }),
    engine: config.engine,
    halfBatch: claim.failures.includes('out-of-memory'),
    ...place,
    store: { dataDir: config.dataDir, s3: config.s3 },
  };
}

async function assigned(db: Database, id: string): Promise<AssignedDataset> {
  const row = await db.datasets.forWorker(id);
  if (row?.status !== 'ready' || row.pack === null || row.dataset.format === null)
    throw new JobError('dataset-unavailable', `The dataset ${id} is not there any more`);
  const { counts, labels, format } = row.dataset;
  if (counts === null || labels === null || row.sha256 === null)
    throw new Error(`${row.id} is ready without counts or hash`);
  // The database keeps the pack as JSON that ingest-dataset.ts wrote.
  return { id: row.id, sha256: row.sha256, format, counts, labels, pack: row.pack as unknown as DatasetPack };
}
