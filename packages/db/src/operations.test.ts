/** What keeps a busy service fair and honest: failures, workers that stop working, whose turn it is. */
import { setTimeout as sleep } from 'node:timers/promises';
import { newId } from '@ntaa/contracts';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startStack, type TestStack } from '../../../test/setup/stack.js';
import { openDatabase } from './database.js';
import { MAX_FAILURES, type Claim, type Database } from './types.js';

let stack: TestStack;
let db: Database;
let sql: pg.Pool;
beforeAll(async () => {
  stack = await startStack();
  db = await openDatabase(stack.databaseUrl);
  sql = new pg.Pool({ connectionString: stack.databaseUrl, max: 2 });
});
afterAll(async () => {
  await sql?.end();
  await db?.close();
  await stack?.close();
});

async function readyDataset(tenant: string): Promise<string> {
  const id = newId('ds');
  await db.datasets.create({
    id,
    name: 'x',
    format: null,
    tenant,
    uploadKey: `${id}/a`,
    sha256: 'ab',
    bytes: 1,
  });
  const report = { error: null, skipped: [], warnings: [], sizes: null };
  const counts = { images: 4, skipped: 0, bytes: 99, classes: 2, splits: null };
  await db.datasets.markReady(id, { format: 'image-folder', counts, labels: [], report, pack: {} });
  return id;
}
const datasets = new Map<string, Promise<string>>();
async function newJob(tenant = 'default', more: object = {}): Promise<string> {
  if (!datasets.has(tenant)) datasets.set(tenant, readyDataset(tenant));
  const dataset = await datasets.get(tenant)!;
  const job = await db.jobs.create(tenant, { kind: 'adapt', task: 'classification', dataset, ...more });
  if (typeof job === 'string') throw new Error(job);
  return job.id;
}
async function claimed(id: string, worker = 'w'): Promise<Claim> {
  await sql.query(`UPDATE jobs SET queued_at = now() - interval '1 millisecond' WHERE id = $1`, [id]);
  const claim = await db.jobs.claim(id, worker, 60_000);
  if (!claim) throw new Error(`${id} was not claimed`);
  return claim;
}
/** Its worker is lost. */
async function lose(id: string): Promise<void> {
  await sql.query(`UPDATE jobs SET lease_until = now() - interval '1 second' WHERE id = $1`, [id]);
  await db.jobs.reap();
}
const statusOf = async (id: string) => (await db.jobs.get('default', id))!.status;

test('what went wrong before a checkpoint does not end a job that got on since', async () => {
  const before = (await db.figures()).failures;
  const id = await newJob();
  const losses = 3 * MAX_FAILURES;
  for (let n = 0; n < losses; n++) {
    const { lease } = await claimed(id);
    const key = `jobs/${id}/${n}`;
    await db.jobs.commitCheckpoint(lease, { name: 'state', key, sha256: 's', size: 1, data: {} });
    if (n % 2) await lose(id);
    else await db.jobs.fail(lease, { code: 'internal', detail: 'x' }, true);
    expect(await statusOf(id)).toBe('queued');
  }
  // None is forgotten: neither by the figures, nor by the attempts that follow.
  expect((await db.figures()).failures - before).toBe(losses);
  const { failures, lease } = await claimed(id);
  expect(failures).toHaveLength(losses);
  await db.jobs.commitCheckpoint(lease, { name: 'state', key: 'k', sha256: 's', size: 1, data: {} });
  await db.jobs.release(lease);
  expect((await claimed(id)).failures).toHaveLength(losses);
});

test('a job that fails at the same place every time ends, however far it had come', async () => {
  const id = await newJob();
  const first = await claimed(id);
  await db.jobs.commitCheckpoint(first.lease, { name: 'state', key: 'k', sha256: 's', size: 1, data: {} });
  await lose(id);
  for (let n = 2; n <= MAX_FAILURES; n++) {
    expect(await statusOf(id)).toBe('queued');
    await claimed(id);
    await lose(id);
  }
  expect(await statusOf(id)).toBe('failed');
});

test('a worker is known to work, to have stopped, and not to take what waits', async () => {
  const engine = { kind: 'wasm', name: 'wasm 1', reason: 'asked for' };
  const MINUTE = 60_000;
  await sql.query(`UPDATE jobs SET status = 'cancelled' WHERE status IN ('queued', 'running')`);
  const present = (id: string, free: number, idleMs: number | null, slots = 1) =>
    db.workers.present(id, engine, { slots, free, idleMs });
  const states = async () =>
    Object.fromEntries((await db.workers.list()).data.map(({ id, state }) => [id, state]));
  await present('busy', 0, null);
  await present('half', 1, 20 * MINUTE, 2);
  await present('idle', 1, 20 * MINUTE);
  await present('new', 1, MINUTE);
  await present('killed', 0, null);
  await sql.query(`UPDATE workers SET seen_at = now() - interval '2 minutes' WHERE id = 'killed'`);
  // Nothing waits: nobody is to blame.
  const well = { busy: 'working', half: 'working', idle: 'idle', new: 'idle', killed: 'silent' };
  expect(await states()).toEqual(well);

  const waiting = await newJob();
  const wait = (interval: string) =>
    sql.query(`UPDATE jobs SET queued_at = now() + $2::interval WHERE id = $1`, [waiting, interval]);
  await wait('2 minutes');
  expect(await states()).toEqual(well);
  await wait('-4 minutes');
  expect(await states()).toEqual(well);
  await wait('-6 minutes');
  expect(await states()).toEqual({ ...well, half: 'stalled', idle: 'stalled' });
  expect(await db.workers.states()).toEqual({ working: 1, stalled: 2, idle: 1, silent: 1 });
  await present('idle', 1, 0);
  expect((await states())['idle']).toBe('idle');
  const page = await db.workers.list({ limit: 2 });
  expect(page.data.map(({ id }) => id)).toEqual(['busy', 'half']);
  expect((await db.workers.list({ after: page.next_cursor! })).data).toHaveLength(3);
  await sql.query(`UPDATE workers SET seen_at = now() - interval '2 hours' WHERE id = 'killed'`);
  await present('new', 1, 0);
  expect(await states()).not.toHaveProperty('killed');
  for (const id of ['busy', 'half', 'idle', 'new']) await db.workers.gone(id);
  await db.jobs.action('default', waiting, 'cancel');
});

/** Takes whatever job's turn it is, has it succeed where `done`, and says whose it was. */
async function serve(done = true): Promise<{ tenant: string; id: string } | null> {
  const claim = await db.jobs.claim(null, 'w', 60_000);
  if (claim && done)
    await db.jobs.succeed(claim.lease, {
      result: { metrics: {}, macs: 1, params: 1 },
      stopReason: 'completed',
    });
  return claim && { tenant: claim.tenant, id: claim.lease.jobId };
}
const clear = () => sql.query(`UPDATE jobs SET status = 'cancelled', lease_token = NULL`);

test('a thousand jobs of one tenant do not keep the only job of another waiting', async () => {
  await clear();
  const first = await newJob('many');
  await sql.query(
    `INSERT INTO jobs (id, tenant_id, kind, dataset_id, request, progress, queued_at)
     SELECT 'job_many' || n, 'many', 'adapt', dataset_id, request, progress, now() - interval '1 hour'
     FROM jobs, generate_series(1, 999) AS n WHERE id = $1`,
    [first],
  );
  // With one worker: nobody's job runs whenever it asks, and still they take turns.
  expect((await serve())!.tenant).toBe('many');
  const lonely = await newJob('one');
  const place = (await db.jobs.get('one', lonely))!.queue_position!;
  expect(place).toBeLessThanOrEqual(2);
  expect(await serve()).toEqual({ tenant: 'one', id: lonely });
  expect((await serve())!.tenant).toBe('many');
  // With several, whoever has fewer running comes first, however many ask at once.
  for (let n = 0; n < 4; n++) await newJob('two');
  const served = await Promise.all(Array.from({ length: 6 }, () => serve(false)));
  expect(served.map((job) => job!.tenant).sort()).toEqual([
    ...Array<string>(3).fill('many'),
    ...Array<string>(3).fill('two'),
  ]);
  await newJob('one');
  expect((await serve())!.tenant).toBe('one');
});

test('of a tenant’s jobs the more urgent, then the older, come first; what is being stopped before all', async () => {
  await clear();
  // A long queue, as it was, is not counted at every submission.
  await sleep(1100);
  const [plain, low, high, later] = [
    await newJob(),
    await newJob('default', { priority: -1 }),
    await newJob('default', { priority: 5 }),
    await newJob('default', { priority: 5 }),
  ];
  const order = [high, later, plain, low];
  const listed = (await db.jobs.list('default', { status: 'queued' })).data;
  expect(Object.fromEntries(listed.map((job) => [job.id, job.queue_position]))).toEqual(
    Object.fromEntries(order.map((id, i) => [id, i + 1])),
  );
  expect((await db.jobs.get('default', high))!.request).toMatchObject({ priority: 5 });
  const made = await db.jobs.create('default', { kind: 'adapt', task: 'classification', dataset: (await datasets.get('default'))!, priority: 1 }); // prettier-ignore
  expect((made as { queue_position: number }).queue_position).toBe(3);
  await db.jobs.action('default', (made as { id: string }).id, 'cancel');

  const stopped = await claimed(await newJob('default', { priority: -100 }));
  await db.jobs.action('default', stopped.lease.jobId, 'stop');
  await db.jobs.release(stopped.lease);
  for (const id of [stopped.lease.jobId, ...order]) expect((await serve())!.id).toBe(id);
  expect(await serve()).toBeNull();
});

test('a job that pauses before it is tried again is passed over', async () => {
  await clear();
  const failed = await claimed(await newJob('default', { priority: 9 }));
  await db.jobs.fail(failed.lease, { code: 'internal', detail: 'x' }, true);
  expect(await serve()).toBeNull();
  const next = await newJob();
  expect((await serve())!.id).toBe(next);
  await sql.query(`UPDATE jobs SET queued_at = now() - interval '1 millisecond' WHERE id = $1`, [
    failed.lease.jobId,
  ]);
  expect((await serve())!.id).toBe(failed.lease.jobId);
});

test('a job that is paused while its turn comes is not taken', async () => {
  await clear();
  for (let round = 0; round < 10; round++) {
    const id = await newJob();
    const [, claim] = await Promise.all([
      db.jobs.action('default', id, 'pause'),
      db.jobs.claim(null, 'w', 60_000),
    ]);
    expect(await statusOf(id)).toBe(claim ? 'pausing' : 'paused');
    await sql.query(`UPDATE jobs SET status = 'cancelled', lease_token = NULL WHERE id = $1`, [id]);
  }
});
