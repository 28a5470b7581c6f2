/** The repositories on real servers: the embedded one, and the one the distribution has installed. */
import { readFileSync } from 'node:fs';
import { newId, type AdaptRequest, type Candidate, type Job } from '@ntaa/contracts';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { installedPostgres, startStack, type TestStack } from '../../../test/setup/stack.js';
import { openDatabase } from './database.js';
import {
  KeyLost,
  LeaseLost,
  MAX_FAILURES,
  NameTaken,
  UnknownCursor,
  UploadUsed,
  type Claim,
  type Database,
  type KeyClaim,
  type OutboxEntry,
} from './types.js';

const kinds = ['embedded', ...(installedPostgres() ? (['installed'] as const) : [])] as const;
if (!installedPostgres())
  console.log('Not tested on an installed Postgres: there is none (apt-get install postgresql).');

const report = { error: null, skipped: [], warnings: [], sizes: null };
const counts = { images: 4, skipped: 0, bytes: 99, classes: 2, splits: null };
const candidate = (resolution: number, score = 0.5): Candidate => ({
  genotype: { space: 'tiny', resolution, stages: [[{ kernel: 3, expand: 4 }]] },
  macs: 1e6,
  params: 1000,
  latency_ms: null,
  score,
  metrics: { top1: 0.5, loss: 1 },
  pareto: false,
  selected: false,
});

describe.each(kinds)('on %s Postgres', (kind) => {
  let stack: TestStack;
  let db: Database;
  let sql: pg.Pool;
  beforeAll(async () => {
    stack = await startStack(kind);
    // Two services that start at the same time on an empty database.
    const [first, second] = await Promise.all([
      openDatabase(stack.databaseUrl),
      openDatabase(stack.databaseUrl),
    ]);
    await second.close();
    db = first;
    sql = new pg.Pool({ connectionString: stack.databaseUrl, max: 2 });
  });
  afterAll(async () => {
    await sql?.end();
    await db?.close();
    await stack?.close();
  });

  const drain = async (): Promise<OutboxEntry[]> => {
    const sent: OutboxEntry[] = [];
    while ((await db.outbox.dispatch(100, (entry) => Promise.resolve(void sent.push(entry)))) > 0);
    return sent;
  };
  async function readyDataset(tenant = 'default'): Promise<string> {
    const id = newId('ds');
    await db.datasets.create({
      id,
      name: 'Digits',
      format: null,
      tenant,
      uploadKey: `datasets/${id}/archive`,
      sha256: 'ab',
      bytes: 5_000_000_000,
    });
    await db.datasets.markReady(id, {
      format: 'image-folder',
      counts,
      labels: [{ name: 'a', count: 2 }],
      report,
      pack: { shards: 1 },
    });
    return id;
  }
  /** What the reconciler would look for in the queue. */
  async function wanted(): Promise<string[]> {
    const found: string[] = [];
    for await (const entries of db.outbox.requeueCandidates())
      found.push(...entries.map(({ dedupe }) => dedupe));
    return found;
  }
  async function newJob(tenant = 'default') {
    const request: AdaptRequest = {
      kind: 'adapt',
      task: 'classification',
      dataset: await readyDataset(tenant),
      metadata: { team: 'x' },
    };
    const job = await db.jobs.create(tenant, request);
    if (typeof job === 'string') throw new Error(job);
    return job;
  }
  async function claimed(leaseMs = 60_000): Promise<Claim> {
    const claim = await db.jobs.claim((await newJob()).id, 'w1', leaseMs);
    if (!claim) throw new Error('not claimed');
    return claim;
  }
  /** Lets a lease run out, by the database's own clock. */
  const expire = (id: string) =>
    sql.query(`UPDATE jobs SET lease_until = now() - interval '1 second' WHERE id = $1`, [id]);
  /** Keys of objects given up, whether they are due or not. */
  const garbage = async (): Promise<string[]> =>
    (await sql.query('SELECT key FROM garbage')).rows.map((row) => row.key as string);
  const eventsOf = async (id: string) => (await db.jobs.events('default', id, { limit: 1000 }))!.data;

  test('two services migrated it once, with Prisma’s checksums', async () => {
    const { rows } = await sql.query('SELECT migration_name, checksum FROM _prisma_migrations');
    const names = rows.map((row) => row.migration_name as string);
    expect(names).toEqual([...new Set(names)]);
    expect(names[0]).toBe('20261123000000_init');
    for (const { checksum } of rows) expect(checksum).toMatch(/^[0-9a-f]{64}$/);
    await (await openDatabase(stack.databaseUrl)).close();
    expect((await sql.query('SELECT 1 FROM _prisma_migrations')).rowCount).toBe(rows.length);
  });

  test('a migration changed after it was applied is refused', async () => {
    await sql.query(
      `UPDATE _prisma_migrations SET checksum = 'x' || substr(checksum, 2) WHERE migration_name LIKE '%_init'`,
    );
    try {
      await expect(openDatabase(stack.databaseUrl)).rejects.toThrow(/was changed after/);
    } finally {
      const file = new URL('../../../prisma/migrations/20261123000000_init/migration.sql', import.meta.url);
      const { createHash } = await import('node:crypto');
      const checksum = createHash('sha256').update(readFileSync(file)).digest('hex');
      await sql.query(`UPDATE _prisma_migrations SET checksum = $1 WHERE migration_name LIKE '%_init'`, [
        checksum,
      ]);
    }
  });

  test('an unusable server is an error that names the remedy and no password', async () => {
    const wrong = stack.databaseUrl.replace(/:[^:@/]+@/, ':sesame@');
    await expect(openDatabase(wrong)).rejects.toThrow(/cannot be used.*DATABASE_URL/);
    await expect(openDatabase(wrong)).rejects.not.toThrow(/sesame/);
    await expect(openDatabase('postgres://x:y@127.0.0.1:1/none', { connectTimeoutMs: 200 })).rejects.toThrow(
      /cannot be used/,
    );
  });

  test('API keys: kept as hashes, verified, listed, revoked', async () => {
    const { id, secret } = await db.keys.create({ name: 'ci', scopes: ['jobs:read'], tenant: 'acme' });
    expect(secret).toMatch(/^ntaa_.{32}$/);
    expect(await db.keys.verify(secret)).toMatchObject({
      id,
      tenant: 'acme',
      scopes: ['jobs:read'],
    });
    expect(await db.keys.verify(`${secret}x`)).toBeNull();
    const dump = JSON.stringify((await sql.query('SELECT * FROM api_keys')).rows);
    expect(dump).not.toContain(secret);
    expect((await db.keys.list('acme')).data).toMatchObject([{ id, name: 'ci', scopes: ['jobs:read'] }]);
    expect(await db.keys.revoke('other', id)).toBe(false);
    expect(await db.keys.revoke('acme', id)).toBe(true);
    expect(await db.keys.verify(secret)).toBeNull();
    await db.keys.ensureBootstrap('first');
    await db.keys.ensureBootstrap('second');
    expect(await db.keys.verify('first')).toBeNull();
    expect(await db.keys.verify('second')).toMatchObject({ tenant: 'default', scopes: ['admin'] });
  });

  test('datasets: validated once, paged, kept from other tenants, not deleted while in use', async () => {
    const id = await readyDataset('t1');
    expect(await db.datasets.get('t1', id)).toMatchObject({ id, status: 'ready', counts, object: 'dataset' });
    expect(await db.datasets.get('t2', id)).toBeNull();
    expect(await db.datasets.forWorker(id)).toMatchObject({ bytes: 5_000_000_000, pack: { shards: 1 } });
    expect(await db.datasets.markInvalid(id, report)).toBe(false);
    const more = [await readyDataset('t1'), await readyDataset('t1')];
    const page = await db.datasets.list('t1', { limit: 2, status: 'ready' });
    expect(page.data.map((d) => d.id)).toEqual([more[1], more[0]]);
    const rest = await db.datasets.list('t1', { limit: 2, after: page.next_cursor! });
    expect([rest.data.map((d) => d.id), rest.has_more, rest.next_cursor]).toEqual([[id], false, null]);
    expect(await db.datasets.delete('t2', id)).toBe('missing');
    const job = await db.jobs.create('t1', { kind: 'adapt', task: 'classification', dataset: id });
    expect(await db.datasets.delete('t1', id)).toBe('in-use');
    await db.jobs.action('t1', (job as { id: string }).id, 'cancel');
    expect(await db.datasets.delete('t1', id)).toBe('deleted');
    expect(await db.jobs.create('t1', { kind: 'adapt', task: 'classification', dataset: id })).toBe(
      'dataset-missing',
    );
  });

  test('a job and its queue entry are born together, and entries are dispatched once', async () => {
    await drain();
    const job = await newJob();
    expect(job).toMatchObject({ status: 'queued', attempt: 0, metadata: { team: 'x' } });
    expect(job.queue_position).toBeGreaterThanOrEqual(1);
    const both = await Promise.all([drain(), drain()]);
    const mine = both.flat().filter((entry) => JSON.stringify(entry.payload).includes(job.id));
    expect(mine).toEqual([{ name: 'job.run', payload: { job_id: job.id }, dedupe: `${job.id}-1` }]);
    expect((await eventsOf(job.id)).map((e) => [e.seq, e.type])).toEqual([[1, 'status']]);
  });

  test('a failed send leaves its entry waiting and keeps those before as sent', async () => {
    await drain();
    const [first, second] = [await newJob(), await newJob()];
    const seen: string[] = [];
    const send = (entry: OutboxEntry) => {
      if (entry.dedupe === `${second.id}-1`) return Promise.reject(new Error('queue down'));
      return Promise.resolve(void seen.push(entry.dedupe));
    };
    await db.outbox.dispatch(100, send);
    expect(seen).toContain(`${first.id}-1`);
    await expect(db.outbox.dispatch(100, send)).rejects.toThrow('queue down');
    expect((await drain()).map((entry) => entry.dedupe)).toEqual([`${second.id}-1`]);
  });

  test('of many who claim at once, one wins', async () => {
    const { id } = await newJob();
    const claims = await Promise.all(Array.from({ length: 8 }, (_, i) => db.jobs.claim(id, `w${i}`, 60_000)));
    const won = claims.filter((claim) => claim !== null);
    expect(won).toHaveLength(1);
    expect(won[0]).toMatchObject({ wanted: 'run', lease: { attempt: 1 }, job: { status: 'running' } });
  });

  test('events are numbered without gaps, whoever writes at once', async () => {
    const { lease } = await claimed();
    await Promise.all([
      ...Array.from({ length: 12 }, (_, i) =>
        db.jobs.appendEvents(lease, [
          { type: 'log', data: { i, n: 0 } },
          { type: 'log', data: { i, n: 1 } },
        ]),
      ),
      db.jobs.progress(lease, 'transfer', { fraction: 0.5, eta_seconds: 9, message: 'x' }),
      db.jobs.action('default', lease.jobId, 'stop'),
    ]);
    const events = await eventsOf(lease.jobId);
    // queued, running, stopping; stage, progress; 24 log lines.
    expect(events.map((e) => e.seq)).toEqual(Array.from({ length: 29 }, (_, i) => i + 1));
    const page = await db.jobs.events('default', lease.jobId, { after: 27, limit: 1 });
    expect([page!.data.map((e) => e.seq), page!.next_cursor]).toEqual([[28], '28']);
  });

  test('a worker that slept through its lease can write nothing more', async () => {
    const { lease } = await claimed();
    const id = lease.jobId;
    await expire(id);
    const writes = [
      () => db.jobs.renew(lease, 1000),
      () => db.jobs.progress(lease, 'search', { fraction: 0.5, eta_seconds: 1, message: '' }),
      () => db.jobs.appendEvents(lease, [{ type: 'log', data: {} }]),
      () => db.jobs.putCandidates(lease, [candidate(16)]),
      () => db.jobs.commitCheckpoint(lease, { name: 'a', key: 'k', sha256: 's', size: 1, data: {} }),
      () => db.jobs.succeed(lease, { result: { metrics: {}, macs: 1, params: 1 }, stopReason: 'completed' }),
      () => db.jobs.fail(lease, { code: 'internal', detail: '' }, true),
      () => db.jobs.cancelled(lease),
      () => db.jobs.release(lease),
    ];
    for (const write of writes) await expect(write()).rejects.toThrow(LeaseLost);
    expect(await db.jobs.reap()).toContain(id);
    expect(await db.jobs.reap()).not.toContain(id);
    const next = await db.jobs.claim(id, 'w2', 60_000);
    expect(next!.lease.attempt).toBe(2);
    expect(next!.job.started_at).toBe((await db.jobs.get('default', id))!.started_at);
    for (const write of writes) await expect(write()).rejects.toThrow(LeaseLost);
    expect(await db.jobs.renew(next!.lease, 60_000)).toBe('run');
    expect(await db.jobs.checkpoints(id)).toEqual([]);
  });

  test('a job lost too often has failed, with a last event', async () => {
    const { id } = await newJob();
    for (let failure = 1; failure <= MAX_FAILURES; failure++) {
      expect(await db.jobs.claim(id, 'w', 60_000)).not.toBeNull();
      await expire(id);
      await db.jobs.reap();
    }
    expect(await db.jobs.get('default', id)).toMatchObject({
      status: 'failed',
      attempt: 5,
      error: { code: 'worker-lost' },
    });
    expect((await eventsOf(id)).at(-1)).toMatchObject({ type: 'done', data: { status: 'failed' } });
    expect(await db.jobs.claim(id, 'w', 60_000)).toBeNull();
  });

  test('an attempt knows how those before it failed', async () => {
    const { lease, failures } = await claimed();
    expect(failures).toEqual([]);
    await db.jobs.appendEvents(lease, [{ type: 'warning', data: { code: 'not-a-failure' } }]);
    await db.jobs.fail(lease, { code: 'out-of-memory', detail: 'x' }, true);
    await sql.query('UPDATE jobs SET queued_at = now() WHERE id = $1', [lease.jobId]);
    expect((await db.jobs.claim(lease.jobId, 'w', 60_000))!.failures).toEqual(['out-of-memory']);
    await expire(lease.jobId);
    await db.jobs.reap();
    const third = await db.jobs.claim(lease.jobId, 'w', 60_000);
    expect(third!.failures).toEqual(['out-of-memory', 'worker-lost']);
  });

  test('workers say what they run, once a kind, until they are gone or silent', async () => {
    const gpu = { kind: 'tensorflow-gpu', name: 'tensorflow-gpu 1', reason: 'there' };
    const cpu = { kind: 'wasm', name: 'wasm 1', reason: 'no GPU' };
    const present = (worker: string, engine: typeof gpu) =>
      db.workers.present(worker, engine, { slots: 1, free: 1, idleMs: 0 });
    for (const [worker, engine] of [
      ['a', cpu],
      ['b', gpu],
      ['c', gpu],
    ] as const)
      // prettier-ignore
      await present(worker, engine);
    const byKind = async () => (await db.workers.engines()).map(({ kind }) => kind).sort();
    expect(await byKind()).toEqual(['tensorflow-gpu', 'wasm']);
    expect(await db.workers.engines()).toContainEqual(cpu);
    await present('a', gpu);
    expect(await byKind()).toEqual(['tensorflow-gpu']);
    await present('a', cpu);
    await sql.query(`UPDATE workers SET seen_at = now() - interval '2 minutes' WHERE id = 'a'`);
    expect(await byKind()).toEqual(['tensorflow-gpu']);
    await present('a', cpu);
    for (const worker of ['b', 'c']) await db.workers.gone(worker);
    expect(await byKind()).toEqual(['wasm']);
    await db.workers.gone('a');
    expect(await db.workers.engines()).toEqual([]);
  });

  test('what was asked of a job whose worker is lost still happens', async () => {
    for (const [action, status] of [
      ['cancel', 'cancelled'],
      ['pause', 'paused'],
      ['stop', 'stopping'],
    ] as const) {
      const { lease } = await claimed();
      await db.jobs.action('default', lease.jobId, action);
      await expire(lease.jobId);
      await db.jobs.reap();
      expect((await db.jobs.get('default', lease.jobId))!.status).toBe(status);
      if (action !== 'stop') continue;
      expect(await db.jobs.claim(lease.jobId, 'w2', 60_000)).toMatchObject({ wanted: 'stop' });
    }
  });

  test('a job waiting to be stopped by a new worker is cancelled at once', async () => {
    const { lease } = await claimed();
    await db.jobs.action('default', lease.jobId, 'stop');
    expect(await db.jobs.release(lease)).toBe('stopping');
    const outcome = await db.jobs.action('default', lease.jobId, 'cancel');
    expect(outcome).toMatchObject({ changed: true, job: { status: 'cancelled' } });
    expect(await db.jobs.claim(lease.jobId, 'w2', 60_000)).toBeNull();
  });

  test('actions: done once, repeated without effect, refused when illegal or another tenant’s', async () => {
    const { lease } = await claimed();
    const act = (action: 'cancel' | 'stop' | 'pause' | 'resume') =>
      db.jobs.action('default', lease.jobId, action);
    expect(await act('pause')).toMatchObject({ changed: true, job: { status: 'pausing' } });
    expect(await act('pause')).toMatchObject({ changed: false });
    expect(await db.jobs.renew(lease, 60_000)).toBe('pause');
    expect(await db.jobs.release(lease)).toBe('paused');
    await drain();
    expect(await act('stop')).toEqual({ illegal: 'paused' });
    expect(await act('resume')).toMatchObject({ changed: true, job: { status: 'queued' } });
    expect((await drain()).map((entry) => entry.dedupe)).toEqual([`${lease.jobId}-2`]);
    expect(await db.jobs.action('other', lease.jobId, 'cancel')).toBe('missing');
    expect(await act('cancel')).toMatchObject({ job: { status: 'cancelled', queue_position: null } });
    expect(await act('cancel')).toMatchObject({ changed: false });
    expect(await act('resume')).toEqual({ illegal: 'cancelled' });
  });

  test('success writes model, result and last events together; a cancelled job keeps nothing', async () => {
    const metrics = { top1: 0.9, top1_interval: [0.8, 0.95] as [number, number], top5: 1, balanced_accuracy: 0.9, loss: 0.3, images: 9 }; // prettier-ignore
    const model = (id: string) => ({
      id,
      task: 'classification',
      labels: ['a', 'b'],
      genotype: candidate(16).genotype,
      macs: 1e6,
      params: 1000,
      metrics,
      lineage: {
        job: 'j',
        supernet: 's',
        supernet_sha256: 'x',
        dataset: 'd',
        dataset_sha256: 'y',
        seed: 0,
        engine: 'wasm',
        version: '0',
      },
      preprocessing: {} as never,
      files: [],
      storage: {
        onnx: { key: 'm/model.onnx', sha256: 'z', size: 7, filename: 'm.onnx', contentType: 'a/b' },
      },
    });
    const { lease } = await claimed();
    const id = newId('mdl');
    const result = { model: id, metrics, macs: 1e6, params: 1000 };
    expect(await db.jobs.succeed(lease, { result, stopReason: 'converged', model: model(id) })).toBe(
      'succeeded',
    );
    expect(await db.jobs.get('default', lease.jobId)).toMatchObject({
      status: 'succeeded',
      stop_reason: 'converged',
      result,
      progress: { fraction: 1 },
    });
    expect((await eventsOf(lease.jobId)).slice(-2).map((e) => e.type)).toEqual(['status', 'done']);
    expect((await db.models.get('default', id))!.metrics).toEqual(metrics);
    expect(await db.models.file('default', id, 'onnx')).toMatchObject({ key: 'm/model.onnx', size: 7 });
    expect(await db.models.file('default', id, 'tfjs')).toBeNull();
    expect(await db.models.file('other', id, 'onnx')).toBeNull();
    await expect(db.jobs.cancelled(lease)).rejects.toThrow(LeaseLost);

    const second = (await claimed()).lease;
    await db.jobs.action('default', second.jobId, 'cancel');
    const lost = newId('mdl');
    expect(await db.jobs.succeed(second, { result, stopReason: 'completed', model: model(lost) })).toBe(
      'cancelled',
    );
    expect(await db.models.get('default', lost)).toBeNull();
  });

  test('candidates keep the order of evaluation and are replaced by genotype', async () => {
    const { lease } = await claimed();
    await db.jobs.putCandidates(lease, [candidate(32), candidate(16), candidate(24)]);
    await db.jobs.putCandidates(lease, [{ ...candidate(16, 0.9), pareto: true }]);
    const all = (await db.jobs.candidates('default', lease.jobId))!.data;
    expect(all.map((c) => [c.genotype.resolution, c.score])).toEqual([[32, 0.5], [16, 0.9], [24, 0.5]]); // prettier-ignore
    const page = (await db.jobs.candidates('default', lease.jobId, { limit: 2 }))!;
    const rest = (await db.jobs.candidates('default', lease.jobId, { after: page.next_cursor! }))!;
    expect(rest.data.map((c) => c.genotype.resolution)).toEqual([24]);
    expect((await db.jobs.candidates('default', lease.jobId, { pareto: true }))!.data).toHaveLength(1);
  });

  test('checkpoints: the last committed one counts, and the one before is garbage', async () => {
    const { lease } = await claimed();
    const checkpoint = { name: 'transfer', key: 'a', sha256: 's', size: 3, data: { step: 1 } };
    await db.jobs.commitCheckpoint(lease, checkpoint);
    expect(await garbage()).not.toContain('a');
    await db.jobs.commitCheckpoint(lease, { ...checkpoint, key: 'b' });
    expect(await garbage()).toContain('a');
    expect(await db.jobs.checkpoints(lease.jobId)).toEqual([{ ...checkpoint, key: 'b' }]);
  });

  test('what a job gave up is garbage from the moment that nobody can need it', async () => {
    const folders = (id: string, attempt: number) => [`jobs/${id}/`, `models/${id}-${attempt}/`];
    const given = async (id: string) => (await garbage()).filter((key) => key.includes(id)).sort();
    const queued = await newJob();
    await db.jobs.action('default', queued.id, 'cancel');
    expect(await given(queued.id)).toEqual([`jobs/${queued.id}/`]);

    // Paused after an attempt: its checkpoints are needed until it is cancelled.
    const { lease } = await claimed();
    await db.jobs.action('default', lease.jobId, 'pause');
    await db.jobs.release(lease);
    expect(await given(lease.jobId)).toEqual([`models/${lease.jobId}-1/`]);
    await db.jobs.action('default', lease.jobId, 'cancel');
    expect(await given(lease.jobId)).toEqual(folders(lease.jobId, 1));

    // A worker that was lost, and finds out late.
    const lost = (await claimed()).lease;
    await db.jobs.action('default', lost.jobId, 'cancel');
    await expire(lost.jobId);
    await db.jobs.reap();
    await sql.query('DELETE FROM garbage');
    await db.jobs.lost(lost);
    expect(await given(lost.jobId)).toEqual(folders(lost.jobId, 1));

    // One whose success was recorded although it did not hear of it.
    const done = (await claimed()).lease;
    await db.jobs.commitCheckpoint(done, { name: 'a', key: 'k', sha256: 's', size: 1, data: {} });
    await db.jobs.succeed(done, { result: { metrics: {}, macs: 1, params: 1 }, stopReason: 'completed' });
    await db.jobs.lost(done);
    expect(await given(done.jobId)).toEqual([`jobs/${done.jobId}/`]);
    expect(await db.jobs.checkpoints(done.jobId)).toEqual([]);
  });

  test('garbage is deleted once due, and what cannot be deleted keeps nothing else from it', async () => {
    await sql.query('DELETE FROM garbage');
    await db.garbage.add(['later/'], 3600);
    await db.garbage.add(['stuck/', 'gone/']);
    const removed: string[] = [];
    const remove = (key: string) =>
      key === 'stuck/' ? Promise.reject(new Error('no')) : Promise.resolve(void removed.push(key));
    for (let i = 0; i < 2; i++) await db.garbage.collect(10, remove).catch(() => undefined);
    expect(removed).toEqual(['gone/']);
    expect((await garbage()).sort()).toEqual(['later/', 'stuck/']);
    const again = (await sql.query(`SELECT due > now() + interval '50 s' AS later FROM garbage`)).rows;
    expect(again).toEqual([{ later: true }, { later: true }]);
  });

  test('datasets give up what they do not need, and are validated again after a pause', async () => {
    const create = async () => {
      const id = newId('ds');
      const upload = { uploadKey: `datasets/${id}/upload`, sha256: null, bytes: 1 };
      await db.garbage.add([`datasets/${id}/`]);
      await db.datasets.create({ id, name: 'x', format: null, tenant: 'default', ...upload });
      return id;
    };
    const given = async (id: string) => (await garbage()).filter((key) => key.includes(id)).sort();
    const waits = async (id: string) => (await wanted()).includes(id);
    const id = await create();
    expect(await given(id)).toEqual([]);
    await sql.query(`UPDATE datasets SET created_at = now() - interval '1 minute' WHERE id = $1`, [id]);
    expect(await waits(id)).toBe(true);
    expect(await db.datasets.postpone(id)).toBe(1);
    expect(await db.datasets.postpone(id)).toBe(2);
    expect(await waits(id)).toBe(false);
    const { rows } = await sql.query('SELECT retry_at - now() < interval \'9 s\' AS soon FROM datasets WHERE id = $1', [id]); // prettier-ignore
    expect(rows).toEqual([{ soon: true }]);
    await sql.query('UPDATE datasets SET retry_at = now() WHERE id = $1', [id]);
    expect(await waits(id)).toBe(true);
    await sql.query('UPDATE datasets SET failures = 700 WHERE id = $1', [id]);
    expect(await db.datasets.postpone(id)).toBe(701);
    expect(await db.datasets.markInvalid(id, report)).toBe(true);
    expect(await given(id)).toEqual([`datasets/${id}/`, `datasets/${id}/upload`]);
    const good = await readyDataset();
    expect(await given(good)).toEqual([`datasets/${good}/archive`]);
    expect(await db.datasets.delete('default', good)).toBe('deleted');
    expect(await given(good)).toEqual([`datasets/${good}/`, `datasets/${good}/archive`]);
  });

  test('an upload becomes one dataset, or expires', async () => {
    const create = (expiresAt: Date) =>
      db.uploads.create({
        ...{ id: newId('up'), tenant: 't1', filename: 'a.zip', size: 6_000_000_000, partSize: 5_000_000 },
        ...{ key: 'uploads/x/archive', handle: 'h', secret: 's', expiresAt },
      });
    const tomorrow = new Date(Date.now() + 86_400_000);
    const [upload, old] = [await create(tomorrow), await create(new Date(Date.now() - 1000))];
    expect(await db.uploads.get(upload.id, 't1')).toEqual(upload);
    expect(upload).toMatchObject({ size: 6_000_000_000, dataset: null });
    expect(await db.uploads.get(upload.id, 't2')).toBeNull();
    expect(await db.uploads.get(old.id, 't1')).toBeNull();
    let joined = 0;
    const use = (tenant = 't1') => {
      const id = newId('ds');
      const join = () => Promise.resolve(void joined++);
      const archive = { uploadKey: upload.key, sha256: null, bytes: upload.size, upload: { id: upload.id, join } }; // prettier-ignore
      return db.datasets.create({ id, name: 'x', format: null, tenant, ...archive });
    };
    await expect(use('t2')).rejects.toThrow(UploadUsed);
    const both = await Promise.allSettled([use(), use()]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(joined).toBe(1);
    expect((await db.uploads.get(upload.id))!.dataset).toMatch(/^ds_/);
    const forgotten: string[] = [];
    await db.uploads.collect(10, ({ id }) => Promise.resolve(void forgotten.push(id)));
    expect(forgotten).toEqual([old.id]);
    await db.uploads.collect(10, () => Promise.reject(new Error('asked twice')));
  });

  test('a cursor is of this list, or refused', async () => {
    const [mine, other] = [await readyDataset('c1'), await readyDataset('c2')];
    expect((await db.datasets.list('c1', { after: mine })).data).toEqual([]);
    for (const after of [other, newId('ds'), 'nonsense', ''])
      await expect(db.datasets.list('c1', { after }), after).rejects.toThrow(UnknownCursor);
    const { id } = await newJob('c1');
    for (const after of [mine, newId('job')]) await expect(db.jobs.list('c1', { after })).rejects.toThrow(UnknownCursor); // prettier-ignore
    for (const list of [db.models, db.keys, db.supernets])
      await expect(list.list('c1', { after: id })).rejects.toThrow(UnknownCursor);
    for (const after of ['1', '0', '-1', 'x', '9'.repeat(30)])
      await expect(db.jobs.candidates('c1', id, { after })).rejects.toThrow(UnknownCursor);
    expect((await db.jobs.events('c1', id, { after: 1 }))!.data).toEqual([]);
    await expect(db.jobs.events('c1', id, { after: 2 })).rejects.toThrow(UnknownCursor);
  });

  test('a job that failed pauses before it is tried again; one whose worker was lost does not', async () => {
    const { lease } = await claimed();
    const claim = () => db.jobs.claim(lease.jobId, 'w', 60_000);
    await db.jobs.fail(lease, { code: 'storage-unavailable', detail: '' }, true);
    expect(await claim()).toBeNull();
    await sql.query(`UPDATE jobs SET queued_at = now() - interval '1 second' WHERE id = $1`, [lease.jobId]);
    expect(await claim()).not.toBeNull();
    await expire(lease.jobId);
    await db.jobs.reap();
    expect(await claim()).not.toBeNull();
  });

  test('supernets: the built-in one is everybody’s, names are unique', async () => {
    const space = { name: 'tiny' } as never;
    const net = { name: 'tiny', source: 'fractals', paradigm: 'supervised', search_space: space, architectures: 1e9, params: 5, size_bytes: 20, sha256: 'a', metrics: {} }; // prettier-ignore
    const [first, again] = [
      await db.supernets.upsertBuiltin(net),
      await db.supernets.upsertBuiltin({ ...net, sha256: 'b' }),
    ];
    expect([again.id, again.sha256, again.builtin]).toEqual([first.id, 'b', true]);
    expect((await db.supernets.get('anyone', 'tiny'))!.id).toBe(first.id);
    const own = { ...net, id: newId('sn'), name: 'own', key: 'supernets/own' };
    await db.supernets.create('t1', own);
    expect(await db.supernets.stored('t1', own.id)).toMatchObject({ name: 'own', key: 'supernets/own' });
    expect(await db.supernets.get('t2', own.id)).toBeNull();
    await expect(db.supernets.create('t1', { ...own, id: newId('sn') })).rejects.toThrow(NameTaken);
    await expect(db.supernets.create('t1', { ...own, id: newId('sn'), name: 'tiny' })).rejects.toThrow(
      NameTaken,
    );
    expect((await db.supernets.list('t1')).data).toHaveLength(2);
  });

  test('idempotency: one of many at once is new; the answer is kept; another body is a mismatch', async () => {
    const begin = (tenant = 't', hash = 'h') => db.idempotency.begin(tenant, 'k', 'POST /jobs', hash, 3600);
    const claimOf = (state: Awaited<ReturnType<typeof begin>>) => (state as { claim: KeyClaim }).claim;
    const states = await Promise.all(Array.from({ length: 6 }, () => begin()));
    expect(states.map((s) => s.state).sort()).toEqual([...Array<string>(5).fill('in-flight'), 'new']);
    const response = { status: 202, headers: { location: '/x' }, body: { id: 1 } };
    const claim = claimOf(states.find((s) => s.state === 'new')!);
    await db.tenants.create({ name: 'x' }, { claim, answer: () => response });
    expect(await begin()).toEqual({ state: 'stored', response });
    expect(await begin('t', 'other')).toEqual({ state: 'mismatch' });
    const second = await begin('t2', 'other');
    expect(second.state).toBe('new');
    await db.idempotency.abandon(claimOf(second));
    expect((await begin('t2')).state).toBe('new');
    await sql.query(`UPDATE idempotency_keys SET created_at = now() - interval '25 hours'`);
    expect((await begin()).state).toBe('new');
  });

  test('idempotency: a job and its answer are one; who was thought dead makes nothing', async () => {
    const { request } = await claimed();
    const begin = () => db.idempotency.begin('default', 'once', 'POST /v1/jobs', 'h', 30);
    const claim = async () => ((await begin()) as { claim: KeyClaim }).claim;
    const answer = (job: Job) => ({ status: 202, headers: {}, body: job.id });
    const slow = await claim();
    expect(await begin()).toEqual({ state: 'in-flight' });
    await sql.query(
      `UPDATE idempotency_keys SET created_at = now() - interval '31 seconds' WHERE key = 'once'`,
    );
    slow.since.setTime(slow.since.getTime() - 31_000);
    const next = await claim();
    const before = (await db.jobs.list('default', { limit: 100 })).data.length;
    await expect(db.jobs.create('default', request, { claim: slow, answer })).rejects.toThrow(KeyLost);
    expect((await db.jobs.list('default', { limit: 100 })).data.length).toBe(before);
    const job = (await db.jobs.create('default', request, { claim: next, answer })) as Job;
    // The process dies before it answers: the answer is there all the same.
    expect(await begin()).toEqual({ state: 'stored', response: { status: 202, headers: {}, body: job.id } });
    await db.idempotency.abandon(next);
    expect((await begin()).state).toBe('stored');
  });

  test('listeners hear events and outbox rows, also after their connection was lost', async () => {
    const heard: (string | null)[] = [];
    let outbox = 0;
    let wake = (): void => undefined;
    const until = async (done: () => boolean) => {
      while (!done()) await new Promise<void>((resolve) => (wake = resolve));
    };
    const end = await db.listen({
      job: (id) => (heard.push(id), wake()),
      outbox: () => (outbox++, wake()),
    });
    const first = await newJob();
    await until(() => heard.includes(first.id) && outbox >= 2);
    await sql.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE application_name = 'ntaa listen' AND datname = current_database()`);
    await until(() => heard.includes(null));
    const second = await newJob();
    await until(() => heard.includes(second.id));
    await end();
  });

  test('what is older than it is promised to be kept is forgotten, and nothing else', async () => {
    const keys = ['forget-old', 'forget-young'];
    await sql.query(
      `INSERT INTO outbox (name, payload, dedupe, dispatched_at)
       VALUES ('job.run', '{}', $1, now() - interval '25 hours'), ('job.run', '{}', $2, now() - interval '23 hours')`,
      keys,
    );
    const { id } = await newJob();
    await db.outbox.forget();
    const left = await sql.query('SELECT dedupe FROM outbox WHERE dedupe = ANY($1)', [[...keys, `${id}-1`]]);
    expect(left.rows.map(({ dedupe }) => dedupe as string).sort()).toEqual(['forget-young', `${id}-1`]);
  });

  test('of however many jobs wait, each is told once', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 3; i++) ids.push((await newJob()).id);
    // As many as several pages hold, and many of one moment.
    await sql.query(
      `INSERT INTO jobs SELECT (jsonb_populate_record(j, jsonb_build_object('id', 'job_many' || n,
         'queued_at', now() - (n / 150) * interval '1 minute' - interval '1 minute'))).*
       FROM jobs j, generate_series(1, 500) n WHERE j.id = $1`,
      [ids[0]],
    );
    const all = (await wanted()).filter((dedupe) => dedupe.startsWith('job_many'));
    expect(all).toHaveLength(500);
    expect(new Set(all).size).toBe(500);
    await sql.query(`DELETE FROM jobs WHERE id LIKE 'job_many%'`);
  });

  test('the reconciler is told what should be in the queue', async () => {
    const { id } = await newJob();
    await sql.query(`UPDATE jobs SET queued_at = now() - interval '1 minute' WHERE id = $1`, [id]);
    expect(await wanted()).toContain(`${id}-1`);
    await db.jobs.claim(id, 'w', 60_000);
    expect(await wanted()).not.toContain(`${id}-1`);
    await db.ping();
  });
});

test('the generated client was made from the schema as it is', () => {
  const read = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8');
  const inlined = /"inlineSchema": ("(?:[^"\\]|\\.)*")/.exec(read('./generated/internal/class.ts'));
  expect(JSON.parse(inlined![1]!)).toBe(read('../../../prisma/schema.prisma'));
});
