/** What a child has to know to work on a job: put together from what the database holds of it. */
import { JobError, type JobRequest } from '@ntaa/contracts';
import { outputFolder, type Claim, type Database } from '@ntaa/db';
import type { Context } from './context.js';
import type { AssignedDataset, DatasetPack, HelpAssignment, JobAssignment } from './protocol.js';

/** Where a child may work. */
export type Place = Pick<JobAssignment, 'scratch' | 'gpu'>;

/** Everything the trainer has to know. */
export async function assemble(context: Context, claim: Claim, place: Place): Promise<JobAssignment> {
  const { db } = context;
  const { request, lease, tenant } = claim;
  return {
    kind: 'job',
    jobId: lease.jobId,
    attempt: lease.attempt,
    startedAt: claim.job.started_at ?? new Date().toISOString(),
    wanted: claim.wanted,
    checkpoints: await db.jobs.checkpoints(lease.jobId),
    outputs: outputFolder({ kind: request.kind, id: lease.jobId, attempt: lease.attempt }),
    halfBatch: claim.failures.includes('out-of-memory'),
    ...(await subject(context, tenant, request)),
    ...place,
  };
}

/** Everything a helper has to know; null: the job is not there any more. */
export async function assembleHelp(
  context: Context,
  jobId: string,
  place: Place,
): Promise<HelpAssignment | null> {
  const job = await context.db.pieces.job(jobId);
  return job && { kind: 'help', jobId, ...(await subject(context, job.tenant, job.request)), ...place };
}

/** What is worked on, and with what. */
async function subject({ db, config }: Context, tenant: string, request: JobRequest) {
  const source = request.kind === 'adapt' ? request.source_dataset : undefined;
  const supernet =
    request.kind === 'adapt' ? await db.supernets.stored(tenant, request.supernet ?? 'tiny') : null;
  if (request.kind === 'adapt' && supernet === null)
    throw new JobError('internal', `The supernet ${request.supernet ?? 'tiny'} is not there any more`);
  return {
    request,
    dataset: await assigned(db, request.dataset),
    sourceDataset: source === undefined ? null : await assigned(db, source),
    supernet,
    engine: config.engine,
    threads: config.threads,
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
