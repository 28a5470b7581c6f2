/** Which helpers a job's worker wakes, and when, on a real Postgres. */
import { newId, type JobRequest } from '@ntaa/contracts';
import { openDatabase, type Claim, type Database } from '@ntaa/db';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startStack, type TestStack } from '../../../test/setup/stack.js';
import { engineKey } from './engine-key.js';
import { answerPieces, wakeHelpers } from './offers.js';

const ENGINE = { kind: 'wasm', name: 'wasm', reason: 'test' } as const;
const LEASE = 60_000;
let stack: TestStack;
let db: Database;
let sql: pg.Client;
let context: Parameters<typeof wakeHelpers>[0];

beforeAll(async () => {
  stack = await startStack();
  db = await openDatabase(stack.databaseUrl);
  sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  context = { db, worker: 'own-1', engine: ENGINE, config: { threads: 1 }, gpus: [] } as unknown as typeof context; // prettier-ignore
  for (const worker of ['h-1', 'i-1', 'j-1'])
    await db.workers.present(worker, ENGINE, { slots: 1, free: 1, idleMs: 0 });
});
afterAll(async () => {
  await sql.end();
  await db.close();
  await stack.close();
});

async function claimed(more: object): Promise<Claim> {
  const id = newId('ds');
  const upload = { uploadKey: id, sha256: 'ab'.repeat(32), bytes: 1 };
  await db.datasets.create({ id, name: 'x', format: null, tenant: 'default', ...upload });
  await db.datasets.markReady(id, {
    ...{ format: 'image-folder', labels: [], pack: {} },
    counts: { images: 2, skipped: 0, bytes: 2, classes: 2, splits: null },
    report: { error: null, skipped: [], warnings: [], sizes: null },
  });
  const request = { kind: 'adapt', task: 'classification', dataset: id, ...more } as JobRequest;
  const job = (await db.jobs.create('default', request)) as { id: string };
  return (await db.jobs.claim(job.id, 'own-1', LEASE))!;
}

/** Wake-ups that were written for the job. */
const woken = async ({ lease }: Claim): Promise<number> =>
  (await sql.query(`SELECT FROM outbox WHERE name = 'job.help' AND payload->>'job_id' = $1`, [lease.jobId])).rows.length; // prettier-ignore

it('has helpers start with a job that is going to be a search, and only with such a one', async () => {
  const linear = { paradigm: 'linear-evaluation' };
  for (const [request, helpers] of [
    [{ ...linear, budget: { max_candidates: 120 } }, 3],
    [{ ...linear, budget: { max_candidates: 50 } }, 2],
    [{ ...linear, budget: { max_candidates: 12 } }, 0],
    [{ budget: { max_candidates: 120 } }, 0],
  ] as const) {
    const claim = await claimed(request);
    await wakeHelpers(context, claim, null);
    expect(await woken(claim), JSON.stringify(request)).toBe(helpers);
    const taker = { worker: 'h-1', engine: engineKey(ENGINE), otherHostThan: null };
    const piece = await db.pieces.claim(claim.lease.jobId, taker, LEASE);
    expect(piece?.spec ?? null).toEqual(helpers > 0 ? { subject: null, genotypes: [] } : null);
  }
  // Who is to finish at once shares nothing, nor does an attempt at what comes after the search.
  const claim = await claimed({ ...linear, budget: { max_candidates: 120 } });
  await wakeHelpers(context, { ...claim, wanted: 'stop' }, null);
  await wakeHelpers(context, { ...claim, job: { ...claim.job, stage: 'finetune' } }, null);
  expect(await woken(claim)).toBe(0);
  await wakeHelpers(context, { ...claim, job: { ...claim.job, stage: 'search' } }, null);
  expect(await woken(claim)).toBe(3);
});

it('wakes as many for a batch as are there, and are worth it', async () => {
  const subject = { key: 'k', sha256: 'ab'.repeat(32), size: 1 };
  const pieces = [1, 2, 3, 4].map((resolution) => ({
    subject,
    genotypes: [{ space: 'tiny', resolution, stages: [] }],
  }));
  for (const [wake, expected] of [
    [2, 2],
    [4, 3],
  ] as const) {
    const claim = await claimed({});
    const ids = await answerPieces(context, claim.lease, { ask: 'offer', pieces, wake }, null);
    expect(new Set(ids as string[]).size).toBe(4);
    expect(await woken(claim)).toBe(expected);
  }
});
