/** Leases of pieces on a real Postgres: who may take what, and whose answer counts. */
import { newId, type JobRequest } from '@ntaa/contracts';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { startStack, type TestStack } from '../../../test/setup/stack.js';
import {
  LeaseLost,
  openDatabase,
  piecesFolder,
  type Claim,
  type Database,
  type PieceTaker,
} from './index.js';

let stack: TestStack;
let db: Database;
let sql: pg.Client;
let claim: Claim;

beforeAll(async () => {
  stack = await startStack();
  db = await openDatabase(stack.databaseUrl);
  sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
});
afterAll(async () => {
  await sql.end();
  await db.close();
  await stack.close();
});

const LEASE = 60_000;
/** Whoever asks is on another host than the job's own worker, unless it says otherwise. */
const helper = (worker: string, more: Partial<PieceTaker> = {}): PieceTaker => ({
  ...{ worker, engine: 'e1', otherHostThan: worker.replace(/-\d+$/, '') },
  ...more,
});
const piece = (id: string) => ({ id, engine: 'e1', spec: { zebra: id, ant: 1 } });
const step = (wanted: string[], more: object = {}) => ({ wanted, finished: [], impatient: false, ...more });

beforeEach(async () => {
  const id = newId('ds');
  const upload = { uploadKey: id, sha256: 'ab'.repeat(32), bytes: 1 };
  await db.datasets.create({ id, name: 'x', format: null, tenant: 'default', ...upload });
  await db.datasets.markReady(id, {
    format: 'image-folder',
    counts: { images: 2, skipped: 0, bytes: 2, classes: 2, splits: null },
    labels: [],
    report: { error: null, skipped: [], warnings: [], sizes: null },
    pack: {},
  });
  const request = { kind: 'adapt', task: 'classification', dataset: id } as JobRequest;
  const job = await db.jobs.create('default', request);
  claim = (await db.jobs.claim((job as { id: string }).id, 'own-1', LEASE))!;
});

/** As if the lease of everything that this worker holds had run out. */
const expire = (worker: string) =>
  sql.query(`UPDATE pieces SET lease_until = now() - interval '1 second' WHERE worker = $1`, [worker]);

it('is done in its order by the job’s own worker and by helpers, by nobody twice', async () => {
  const { lease } = claim;
  const all = ['a', 'b', 'c'];
  await db.pieces.offer(lease, all.map(piece), 2);
  const woken = await sql.query(`SELECT payload FROM outbox WHERE name = 'job.help' AND payload->>'job_id' = $1`, [lease.jobId]); // prettier-ignore
  expect(woken.rows).toHaveLength(2);
  expect(await db.pieces.next(lease, step(all))).toEqual({ taken: 'a', done: [] });
  expect((await db.pieces.claim(lease.jobId, helper('h-2'), LEASE))!.lease.id).toBe('b');
  const last = (await db.pieces.claim(lease.jobId, helper('h-1'), LEASE))!;
  expect(last.spec).toEqual({ zebra: 'c', ant: 1 });
  expect(await db.pieces.claim(lease.jobId, helper('h-3'), LEASE)).toBeNull();
  expect(await db.pieces.complete(last.lease, { zebra: 0.1, ant: 1e-7 })).toBe(true);
  const { taken, done } = await db.pieces.next(lease, step(all, { finished: [{ id: 'a', result: 1 }] }));
  expect(taken).toBeNull();
  // Numbers to the bit, keys in their order.
  expect(JSON.stringify(done)).toBe('[{"id":"c","result":{"zebra":0.1,"ant":1e-7}}]');
  // Offered again, by the next attempt perhaps, what is done is done.
  await db.pieces.offer(lease, all.map(piece), 0);
  expect((await db.pieces.next(lease, step(all))).done.map(({ id }) => id).sort()).toEqual(['a', 'c']);
});

it('refuses the answer of a helper that lost its lease, was overtaken, or whose job has ended', async () => {
  const { lease } = claim;
  await db.pieces.offer(lease, [piece('a'), piece('b')], 0);
  const slow = (await db.pieces.claim(lease.jobId, helper('slow-1'), LEASE))!;
  await expire('slow-1');
  expect(await db.pieces.renew(slow.lease, LEASE)).toBe(false);
  expect(await db.pieces.complete(slow.lease, 'late')).toBe(false);
  const second = (await db.pieces.claim(lease.jobId, helper('h-1'), LEASE))!;
  expect(second.lease.id).toBe('a');
  expect(await db.pieces.complete(slow.lease, 'late')).toBe(false);
  // The job's own worker waits for it no longer.
  expect((await db.pieces.next(lease, step(['a']))).taken).toBeNull();
  expect((await db.pieces.next(lease, step(['a'], { impatient: true }))).taken).toBe('a');
  expect(await db.pieces.complete(second.lease, 'late')).toBe(false);
  const third = (await db.pieces.claim(lease.jobId, helper('h-2'), LEASE))!;
  await db.jobs.action('default', lease.jobId, 'cancel');
  await db.jobs.cancelled(lease);
  expect(await db.pieces.complete(third.lease, 'late')).toBe(false);
  const { rows } = await sql.query('SELECT 1 FROM pieces WHERE job_id = $1', [lease.jobId]);
  expect(rows).toEqual([]);
  // What it may just have stored is looked for after the job's folder was emptied.
  // A second and more: `due` is rounded to milliseconds, up as well as down.
  const later = async () =>
    (await sql.query(`SELECT due > now() + interval '1 s' AS later FROM garbage WHERE key = $1`, [piecesFolder(lease.jobId)])).rows; // prettier-ignore
  expect(await later()).toEqual([{ later: true }]);
  await db.pieces.late(lease.jobId);
  expect(await later()).toEqual([{ later: false }]);
});

it('takes nothing of another engine, of a job on a host without room, or of one that does not run', async () => {
  const { lease } = claim;
  await db.pieces.offer(lease, [piece('a')], 0);
  const take = (taker: PieceTaker) => db.pieces.claim(lease.jobId, taker, LEASE);
  expect(await take(helper('h-1', { engine: 'e2' }))).toBeNull();
  expect(await take(helper('own-2'))).toBeNull();
  await db.jobs.action('default', lease.jobId, 'pause');
  expect(await take(helper('h-1'))).toBeNull();
  await db.jobs.action('default', lease.jobId, 'resume');
  expect(await take(helper('own-2', { otherHostThan: null }))).not.toBeNull();
});

it('is taken after what was offered before, whenever it is offered again', async () => {
  const { lease } = claim;
  await db.pieces.offer(lease, [piece('c'), piece('b')], 0);
  await db.pieces.offer(lease, [piece('b'), piece('a')], 0);
  const taken = [];
  for (const worker of ['h-1', 'h-2', 'h-3'])
    taken.push((await db.pieces.claim(lease.jobId, helper(worker), LEASE))!.lease.id);
  expect(taken).toEqual(['c', 'b', 'a']);
});

it('leaves a piece on which helpers fail or die to the job’s own worker', async () => {
  const { lease } = claim;
  await db.pieces.offer(lease, [piece('a')], 0);
  const first = (await db.pieces.claim(lease.jobId, helper('h-1'), LEASE))!;
  await db.pieces.release(first.lease, true);
  expect(await db.pieces.claim(lease.jobId, helper('h-2'), LEASE)).not.toBeNull();
  await expire('h-2');
  // The second death is counted when a third takes it; then it is over.
  const third = (await db.pieces.claim(lease.jobId, helper('h-3'), LEASE))!;
  await db.pieces.release(third.lease, false);
  expect(await db.pieces.claim(lease.jobId, helper('h-4'), LEASE)).toBeNull();
  expect((await db.pieces.next(lease, step(['a']))).taken).toBe('a');
});

it('hands what a lost attempt had taken to the next one, and nothing more to itself', async () => {
  const { lease } = claim;
  await db.pieces.offer(lease, [piece('a'), piece('b')], 0);
  expect((await db.pieces.next(lease, step(['a', 'b']))).taken).toBe('a');
  await sql.query(`UPDATE jobs SET lease_until = now() - interval '1 second' WHERE id = $1`, [lease.jobId]);
  expect(await db.jobs.reap()).toEqual([lease.jobId]);
  await expect(db.pieces.next(lease, step(['a', 'b']))).rejects.toThrow(LeaseLost);
  await expect(db.pieces.offer(lease, [piece('z')], 0)).rejects.toThrow(LeaseLost);
  // Nobody helps a job that waits.
  expect(await db.pieces.claim(lease.jobId, helper('h-1'), LEASE)).toBeNull();
  const next = (await db.jobs.claim(lease.jobId, 'own-2', LEASE))!.lease;
  await db.pieces.offer(next, [piece('a'), piece('b')], 0);
  expect((await db.pieces.next(next, step(['a', 'b']))).taken).toBe('b');
  expect((await db.pieces.next(next, step(['a', 'b']))).taken).toBe('a');
  await db.pieces.withdraw(next);
  expect((await sql.query('SELECT 1 FROM pieces WHERE job_id = $1', [lease.jobId])).rows).toEqual([]);
});

it('counts what helpers worked as compute of the job’s tenant', async () => {
  const { lease } = claim;
  await db.pieces.offer(lease, [piece('a')], 0);
  const held = (await db.pieces.claim(lease.jobId, helper('h-1'), LEASE))!;
  await sql.query(`UPDATE pieces SET claimed_at = now() - interval '50 seconds' WHERE worker = 'h-1'`);
  await db.pieces.complete(held.lease, 1);
  const used = async () => (await db.tenants.usage('default')).compute_seconds.used;
  const before = await used();
  await db.jobs.fail(lease, { code: 'internal', detail: 'x' }, false);
  expect(await used()).toBeGreaterThan(before + 49);
});

it('counts workers that could help, on this host and on others', async () => {
  const engine = { kind: 'wasm', name: 'w1', reason: '' };
  const load = { slots: 1, free: 1, idleMs: 0 };
  for (const id of ['one-1', 'one-2', 'two-1', 'two-a-1']) await db.workers.present(id, engine, load);
  await db.workers.present('two-2', { ...engine, name: 'w2' }, load);
  expect(await db.workers.others('one-1', 'w1')).toEqual({ here: 1, elsewhere: 2 });
  await sql.query(`UPDATE workers SET seen_at = now() - interval '2 minutes' WHERE id = 'two-1'`);
  expect(await db.workers.others('one-1', 'w1')).toEqual({ here: 1, elsewhere: 1 });
});
