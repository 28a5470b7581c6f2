import type { DatasetCode, DatasetReport, JobFailureCode } from '@ntaa/contracts';
import { datasetFolder, type WorkerDataset } from '@ntaa/db';
import type { Context } from './context.js';
import { forkChild, type ChildEnd } from './forked.js';
import type { ChildMessage, DatasetOutcome, Failure } from './protocol.js';
import { withScratch } from './scratch.js';

/** Tries before an archive that crashes its decoder is refused. */
const TRIES = 2;
/**
 * Failures that are not the archive's before it is given up, with pauses of up to two minutes between them: a store may
 * be away for a day, but one that answers and has no such object will hardly have it later.
 */
const PATIENCE: Partial<Record<JobFailureCode, number>> = { 'storage-unavailable': 720 };
const LITTLE_PATIENCE = 5;
/** As what they are reported then. */
const REFUSALS: Partial<Record<JobFailureCode, [DatasetCode, string]>> = {
  'dataset-unavailable': [
    'upload-missing',
    'The uploaded archive is gone from the object store; upload it again',
  ],
  'storage-unavailable': [
    'storage-unavailable',
    'The object store could not be read for a day; upload it again',
  ],
};
const UNKNOWN: [DatasetCode, string] = ['internal', 'Validating it failed on our side, again and again'];

/**
 * Handler of `dataset.validate`: has a child ingest the upload and records what came of it. An archive that is at fault
 * makes the dataset invalid at once; when the service could not do it, the reconciler has it tried again later.
 */
export async function validateDataset(context: Context, id: string, signal: AbortSignal): Promise<void> {
  for (let attempt = 1; attempt <= TRIES; attempt++) {
    const row = await context.db.datasets.forWorker(id);
    if (row?.status !== 'validating') return;
    const { failure, end } = await withScratch(context.scratch, (scratch) =>
      ingestInChild(context, row, scratch, signal),
    );
    if (failure === null) return;
    signal.throwIfAborted();
    context.log.warn({ dataset: id, attempt, failure, stderr: end.stderr }, 'validating a dataset failed');
    // Storage or database trouble says nothing about the archive.
    if (failure.reported) return postpone(context, id, failure.code);
  }
  await refuse(context, id, 'decoder-crashed', 'Reading the archive made its decoder crash, twice');
}

async function postpone(context: Context, id: string, code: JobFailureCode): Promise<void> {
  const failures = await context.db.datasets.postpone(id);
  if (failures >= (PATIENCE[code] ?? LITTLE_PATIENCE))
    await refuse(context, id, ...(REFUSALS[code] ?? UNKNOWN));
}

function refuse(context: Context, id: string, code: DatasetCode, detail: string): Promise<void> {
  const error = { code, detail, where: null };
  const report: DatasetReport = { error, skipped: [], warnings: [], sizes: null };
  return conclude(context, id, { status: 'invalid', report });
}

/** `failure` null: it is concluded. `reported`: the child itself said so, it did not just die. */
async function ingestInChild(
  context: Context,
  row: WorkerDataset,
  scratch: string,
  signal: AbortSignal,
): Promise<{ failure: (Failure & { reported: boolean }) | null; end: ChildEnd }> {
  let concluded = false;
  let reported: Failure | undefined;
  const handle = async (message: ChildMessage): Promise<void> => {
    if (message.type === 'done') {
      await conclude(context, row.id, message.outcome as DatasetOutcome);
      concluded = true;
    } else if (message.type === 'failed') reported = message;
  };
  const { config } = context;
  const child = forkChild(
    {
      kind: 'dataset',
      datasetId: row.id,
      format: row.format,
      uploadKey: row.uploadKey,
      sha256: row.sha256,
      scratch,
      store: { dataDir: config.dataDir, s3: config.s3 },
    },
    handle,
    (error) =>
      context.log.error({ dataset: row.id, err: error }, 'a validated dataset could not be recorded'),
  );
  const abort = (): void => child.kill();
  signal.addEventListener('abort', abort);
  if (signal.aborted) abort();
  const end = await child.ended;
  signal.removeEventListener('abort', abort);
  if (concluded) return { failure: null, end };
  return { failure: { ...(reported ?? end.failure), reported: reported !== undefined }, end };
}

/** Records the outcome. What a dataset that is gone or refused left in the store goes with it. */
async function conclude({ db }: Context, id: string, outcome: DatasetOutcome): Promise<void> {
  if (outcome.status === 'invalid') {
    await db.datasets.markInvalid(id, outcome.report, outcome.found);
    return;
  }
  if (await db.datasets.markReady(id, outcome.ready)) return;
  // Validated by another worker meanwhile: they are the same bytes, under the same keys.
  const row = await db.datasets.forWorker(id);
  if (row?.status !== 'ready') await db.garbage.add([datasetFolder(id)]);
}
