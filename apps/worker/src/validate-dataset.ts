import type { DatasetReport } from '@ntaa/contracts';
import type { WorkerDataset } from '@ntaa/db';
import type { Context } from './context.js';
import { forkChild, type ChildEnd } from './forked.js';
import type { ChildMessage, DatasetOutcome, Failure } from './protocol.js';
import { withScratch } from './scratch.js';

/** Tries before an archive that crashes its decoder is refused. */
const TRIES = 2;

/**
 * Handler of `dataset.validate`: has a child ingest the upload and records what came of it. Rejects (the queue then
 * tries again) when the service itself could not do it; an archive that is at fault makes the dataset invalid.
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
    if (failure.reported) throw new Error(`Validating ${id}: ${failure.detail}`);
  }
  const detail = 'Reading the archive made its decoder crash, twice';
  const report: DatasetReport = {
    error: { code: 'decoder-crashed', detail, where: null },
    skipped: [],
    warnings: [],
    sizes: null,
  };
  await conclude(context, id, { status: 'invalid', report });
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
      scratch,
      store: { dataDir: config.dataDir, s3: config.s3 },
    },
    handle,
    (error) => context.log.error({ dataset: row.id, error }, 'a validated dataset could not be recorded'),
  );
  const abort = (): void => child.kill();
  signal.addEventListener('abort', abort);
  if (signal.aborted) abort();
  const end = await child.ended;
  signal.removeEventListener('abort', abort);
  if (concluded) return { failure: null, end };
  return { failure: { ...(reported ?? end.failure), reported: reported !== undefined }, end };
}

/** Records the outcome, then deletes what nothing refers to any more. */
async function conclude(context: Context, id: string, outcome: DatasetOutcome): Promise<void> {
  const { db, store } = context;
  const upload = (await db.datasets.forWorker(id))?.uploadKey;
  if (outcome.status === 'ready') {
    const recorded = await db.datasets.markReady(id, outcome.ready);
    // Deleted meanwhile: its objects go with it. Validated by another worker: they are the same bytes.
    if (!recorded && (await db.datasets.forWorker(id)) === null) await store.deletePrefix(`datasets/${id}/`);
  } else await db.datasets.markInvalid(id, outcome.report, outcome.found);
  if (upload !== undefined) await store.delete(upload);
}
