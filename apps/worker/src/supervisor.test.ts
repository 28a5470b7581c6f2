import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { parseConfig, type Config } from '@ntaa/config';
import { newId, type AdaptRequest } from '@ntaa/contracts';
import { openDatabase, type Database } from '@ntaa/db';
import { tinySpace } from '@ntaa/nas';
import { openQueue, type Queue } from '@ntaa/queue';
import { openStore, type ObjectStore } from '@ntaa/storage';
import pg from 'pg';
import { pino } from 'pino';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import yazl from 'yazl';
import { startStack, type TestStack } from '../../../test/setup/stack.js';
import type { Context } from './context.js';
import { engineKey } from './engine-key.js';
import { helpJobs } from './help-jobs.js';
import { Slots } from './slots.js';
import { startSupervisor, type Supervisor } from './supervisor.js';
import { validateDataset } from './validate-dataset.js';

const TENANT = 'default';
const LIMIT = { timeout: 60_000, interval: 50 };

// A forked child loads a whole trainer: seconds on an idle machine, much longer beside other tests.
vi.setConfig({ testTimeout: 180_000 });

let stack: TestStack;
let db: Database;
let queue: Queue;
let folder: string;
let store: ObjectStore;
let config: Config;
let supervisor: Supervisor | undefined;
/** An object store that never answers: whoever uses it is certainly still at work. Its sockets show who lives. */
let tarPit: Server;
let sockets: Socket[];

beforeAll(async () => {
  stack = await startStack();
  db = await openDatabase(stack.databaseUrl, { connections: 4 });
});
afterAll(async () => {
  await db.close();
  await stack.close();
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ntaa-worker-'));
  config = parseConfig({ NTAA_DATA_DIR: folder, DATABASE_URL: stack.databaseUrl });
  store = await openStore(config);
  queue = await openQueue({ databaseUrl: stack.databaseUrl });
  sockets = [];
  tarPit = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined).resume();
    tarPit.emit('caught', socket);
  });
  tarPit.listen(0, '127.0.0.1');
  await once(tarPit, 'listening');
});
afterEach(async () => {
  await supervisor?.close();
  supervisor = undefined;
  for (const socket of sockets) socket.destroy();
  tarPit.close();
  await queue.obliterate();
  await queue.close();
  // Workers take whatever waits: the next test's must find only its own.
  await sql(`UPDATE jobs SET status = 'cancelled' WHERE status IN ('queued', 'stopping')`, []);
  await store.close();
  await rm(folder, { recursive: true, force: true });
});

/** What the supervisor logs, a line each. */
let logged: Record<string, unknown>[];

/** `s3Port`: of a server on this machine that is to be taken for S3; null: files. */
function contextWith(s3Port: number | null, gpus: readonly string[] = []): Context {
  const credentials = { accessKeyId: 'a', secretAccessKey: 'b' };
  const s3 = { bucket: 'stuck', endpoint: `http://127.0.0.1:${s3Port}`, region: 'x', credentials };
  logged = [];
  const write = (line: string) => void logged.push(JSON.parse(line) as Record<string, unknown>);
  const settings = s3Port === null ? config : { ...config, s3 };
  const scratch = join(folder, 'scratch');
  const engine = { kind: 'wasm', name: 'wasm', reason: 'test' } as const;
  const common = { config: settings, db, store, tracing: null };
  return { ...common, log: pino({}, { write }), engine, worker: 'test-1', gpus, scratch };
}
async function start(stuck = false, gpus: readonly string[] = []): Promise<void> {
  const { port } = tarPit.address() as AddressInfo;
  supervisor = await startSupervisor(contextWith(stuck ? port : null, gpus), queue);
}

/** Deletes what was given up, as the API does, and says what is left in the store. */
async function left(prefix = ''): Promise<string[]> {
  const remove = (key: string) => (key.endsWith('/') ? store.deletePrefix(key) : store.delete(key));
  await db.garbage.collect(1000, remove);
  const keys: string[] = [];
  for await (const { key } of store.list(prefix)) keys.push(key);
  return keys.sort();
}
async function sql(text: string, values: unknown[]): Promise<void> {
  const client = new pg.Client({ connectionString: stack.databaseUrl });
  await client.connect();
  await client.query(text, values);
  await client.end();
}

async function zip(files: Record<string, Buffer>): Promise<Buffer> {
  const archive = new yazl.ZipFile();
  for (const [name, bytes] of Object.entries(files)) archive.addBuffer(bytes, name);
  archive.end();
  return buffer(archive.outputStream);
}

async function images(count = 40, side = 16): Promise<Buffer> {
  const files: Record<string, Buffer> = {};
  for (let i = 0; i < count; i++) {
    const background = { r: i % 2 ? 255 : 0, g: Math.floor((240 * i) / count), b: 128 };
    const image = sharp({ create: { width: side, height: side, channels: 3, background } });
    files[`${i % 2 ? 'red' : 'dark'}/${i}.png`] = await image.png().toBuffer();
  }
  return zip(files);
}

async function upload(bytes: Buffer): Promise<string> {
  const id = newId('ds');
  const uploadKey = `uploads/${id}`;
  const { sha256, size } = await store.put(uploadKey, bytes);
  await db.datasets.create({ id, name: 'x', format: null, tenant: TENANT, uploadKey, sha256, bytes: size });
  await queue.add('dataset.validate', { dataset_id: id }, { dedupe: id });
  return id;
}

const hashOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** A dataset to be validated, not yet in the queue. `bytes` null: its archive is gone. */
async function newDataset(uploadKey: string, bytes: Buffer | null, sha256: string | null): Promise<string> {
  const id = newId('ds');
  if (bytes) await store.put(uploadKey, bytes);
  await db.datasets.create({ id, name: 'x', format: null, tenant: TENANT, uploadKey, sha256, bytes: 1 });
  return id;
}

async function readyDataset(): Promise<string> {
  const id = newId('ds');
  const sha256 = '0'.repeat(64);
  await db.datasets.create({ id, name: 'x', format: null, tenant: TENANT, uploadKey: id, sha256, bytes: 1 });
  const ref = { key: `datasets/${id}/x`, sha256, size: 1 };
  await db.datasets.markReady(id, {
    format: 'image-folder',
    counts: { images: 2, skipped: 0, bytes: 2, classes: 2, splits: null },
    labels: [
      { name: 'a', count: 1 },
      { name: 'b', count: 1 },
    ],
    report: { error: null, skipped: [], warnings: [], sizes: null },
    pack: { images: ref, index: ref },
  });
  return id;
}

/** A job whose trainer hangs on the store that never answers; resolves when it does. */
async function stuckJob(): Promise<{ id: string; trainer: Socket }> {
  const caught = once(tarPit, 'caught');
  const id = await newJob();
  const [trainer] = (await caught) as [Socket];
  return { id, trainer };
}
async function newJob(): Promise<string> {
  await builtin();
  const request: AdaptRequest = {
    kind: 'adapt',
    task: 'classification',
    dataset: (await readyDataset()) as 'ds_',
  };
  const job = await db.jobs.create(TENANT, request);
  if (typeof job === 'string') throw new Error(job);
  await queue.add('job.run', { job_id: job.id }, { dedupe: job.id });
  return job.id;
}
const job = async (id: string) => (await db.jobs.get(TENANT, id))!;
async function builtin(): Promise<void> {
  await db.supernets.upsertBuiltin({
    name: 'tiny',
    source: 'test',
    paradigm: 'supervised',
    search_space: tinySpace,
    architectures: 1,
    params: 1,
    size_bytes: 1,
    sha256: '0'.repeat(64),
    metrics: {},
  });
}

it('ingests an archive in a child and leaves only the packed dataset', async () => {
  await start();
  const id = await upload(await images());
  await expect.poll(async () => (await db.datasets.get(TENANT, id))!.status, LIMIT).toBe('ready');
  const dataset = (await db.datasets.get(TENANT, id))!;
  expect(dataset.counts).toMatchObject({ images: 40, classes: 2 });
  const files = ['images.bin', 'index.json', 'packed-24.bin', 'packed-32.bin'];
  expect(await left()).toEqual(files.map((file) => `datasets/${id}/${file}`));
  await supervisor!.close();
  expect(await readdir(join(folder, 'scratch'))).toEqual([]);
});

it('marks a broken archive invalid with its code', async () => {
  await start();
  const whole = await images();
  const id = await upload(whole.subarray(0, whole.length - 100));
  await expect.poll(async () => (await db.datasets.get(TENANT, id))!.status, LIMIT).toBe('invalid');
  const { report } = (await db.datasets.get(TENANT, id))!;
  expect(report!.error!.code).toBe('archive-corrupt');
  expect(await left()).toEqual([]);
});

it('learns the hash of an upload that came in parts, and refuses to read a damaged one', async () => {
  const whole = await images();
  const context = contextWith(null);
  const never = new AbortController().signal;
  for (const [bytes, sha256] of [
    [whole, null],
    [whole.subarray(1), hashOf(whole)],
  ] as const) {
    // prettier-ignore
    const id = await newDataset(`uploads/${newId('up')}`, bytes, sha256);
    await validateDataset(context, id, never);
    const dataset = (await db.datasets.get(TENANT, id))!;
    expect(dataset.sha256).toBe(hashOf(whole));
    expect(dataset.status).toBe(sha256 === null ? 'ready' : 'validating');
  }
});

it('gives an upload up that is gone from a store that answers, after some tries', async () => {
  const id = await newDataset('uploads/gone', null, 'ab'.repeat(32));
  const context = contextWith(null);
  for (let failures = 1; failures <= 5; failures++) {
    expect((await db.datasets.get(TENANT, id))!.status).toBe('validating');
    await validateDataset(context, id, new AbortController().signal);
  }
  const { status, report } = (await db.datasets.get(TENANT, id))!;
  expect(status).toBe('invalid');
  expect(report!.error).toMatchObject({ code: 'upload-missing', detail: expect.stringMatching(/again/) });
});

it('keeps a dataset through an outage of the store, but not for ever', async () => {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  await new Promise((closed) => probe.close(closed));
  const outage = contextWith(port);
  const never = new AbortController().signal;
  const whole = await images();
  const [lucky, unlucky] = [await newDataset('uploads/a', whole, null), await newDataset('uploads/b', whole, null)]; // prettier-ignore
  await sql('UPDATE datasets SET failures = $2 WHERE id = $1', [lucky, 100]);
  await sql('UPDATE datasets SET failures = $2 WHERE id = $1', [unlucky, 719]);
  await validateDataset(outage, lucky, never);
  expect((await db.datasets.get(TENANT, lucky))!.status).toBe('validating');
  await validateDataset(contextWith(null), lucky, never);
  expect((await db.datasets.get(TENANT, lucky))!.status).toBe('ready');
  await validateDataset(outage, unlucky, never);
  const { status, report } = (await db.datasets.get(TENANT, unlucky))!;
  expect([status, report!.error!.code]).toEqual(['invalid', 'storage-unavailable']);
});

it('kills a trainer that does not obey a cancel', async () => {
  await start(true);
  const { id, trainer } = await stuckJob();
  const closed = once(trainer, 'close');
  expect(await db.jobs.action(TENANT, id, 'cancel')).toMatchObject({ changed: true });
  await closed;
  await expect.poll(async () => (await job(id)).status, LIMIT).toBe('cancelled');
});

it('tries again after a trainer was killed, and gives the job back when it shuts down itself', async () => {
  await start(true);
  const { id, trainer } = await stuckJob();
  expect(await job(id)).toMatchObject({ status: 'running', attempt: 1 });
  const again = once(tarPit, 'caught');
  const pids = await childrenOf(process.pid, 'child.js');
  expect(pids).toHaveLength(1);
  process.kill(pids[0]!, 'SIGKILL');
  await once(trainer, 'close');
  await again;
  expect(await job(id)).toMatchObject({ status: 'running', attempt: 2 });
  const events = await db.jobs.events(TENANT, id);
  expect(events!.data.map((event) => event.data['code'])).toContain('worker-lost');
  await supervisor!.close();
  expect(await job(id)).toMatchObject({ status: 'queued', attempt: 2 });
  expect(await childrenOf(process.pid, 'child.js')).toEqual([]);
});

it('trains on every GPU at once, one trainer each', async () => {
  await start(true, ['GPU-a', 'GPU-b']);
  const [first, second] = [await stuckJob(), await stuckJob()];
  const gpuOf = async (pid: number): Promise<string | undefined> =>
    /CUDA_VISIBLE_DEVICES=([^\0]*)/.exec(await readFile(`/proc/${pid}/environ`, 'utf8'))?.[1];
  const taken = await Promise.all((await childrenOf(process.pid, 'child.js')).map(gpuOf));
  expect(taken.sort()).toEqual(['GPU-a', 'GPU-b']);
  // A third one waits for one of them.
  const caught = once(tarPit, 'caught');
  const third = await newJob();
  expect(await db.jobs.action(TENANT, first.id, 'cancel')).toMatchObject({ changed: true });
  await caught;
  expect((await job(first.id)).status).toBe('cancelled');
  expect([await job(second.id), await job(third)]).toMatchObject([
    { status: 'running' },
    { status: 'running' },
  ]);
  const now = await Promise.all((await childrenOf(process.pid, 'child.js')).map(gpuOf));
  expect(now.sort()).toEqual(['GPU-a', 'GPU-b']);
});

it('tries a job that does not fit into memory again with half the batch, once', async () => {
  const dataset = (await upload(await images(90, 48))) as 'ds_';
  await start();
  await expect.poll(async () => (await db.datasets.get(TENANT, dataset))!.status, LIMIT).toBe('ready');
  await builtin();
  // The trainer's WebAssembly heap, really, cannot grow beyond 17 MB: the engine starts, and training does not fit.
  const preload = join(folder, 'little-memory.mjs');
  await writeFile(preload, `import v8 from 'node:v8'; v8.setFlagsFromString('--wasm-max-mem-pages=260');`);
  vi.stubEnv('NODE_OPTIONS', `--import=${preload}`);
  const request: AdaptRequest = { kind: 'adapt', task: 'classification', dataset, budget: { max_candidates: 1 } }; // prettier-ignore
  const { id } = (await db.jobs.create(TENANT, request)) as { id: string };
  await queue.add('job.run', { job_id: id }, { dedupe: id });
  await expect.poll(async () => (await job(id)).status, { timeout: 120_000 }).toBe('failed');
  vi.unstubAllEnvs();
  const { attempt, error } = await job(id);
  expect(attempt).toBe(2);
  expect(error).toMatchObject({
    code: 'out-of-memory',
    detail: expect.stringMatching(/even with batches of half/),
  });
  const events = (await db.jobs.events(TENANT, id, { limit: 1000 }))!.data;
  const warnings = events.filter(({ type }) => type === 'warning').map(({ data }) => data);
  expect(warnings).toEqual([
    {
      code: 'out-of-memory',
      failures: 1,
      detail: expect.stringMatching(/trying again with batches of half/),
    },
  ]);
});

it('has removed what a helper had on the disk when it has left', async () => {
  const { port } = tarPit.address() as AddressInfo;
  const slots = new Slots([], () => undefined);
  const help = helpJobs(contextWith(port), slots, queue);
  await builtin();
  const request: AdaptRequest = {
    kind: 'adapt',
    task: 'classification',
    dataset: (await readyDataset()) as 'ds_',
  };
  const { id } = (await db.jobs.create(TENANT, request)) as { id: string };
  const { lease } = (await db.jobs.claim(id, 'other-1', 60_000))!;
  const caught = once(tarPit, 'caught');
  const engine = engineKey({ kind: 'wasm', name: 'wasm' });
  await db.pieces.offer(lease, [{ id: 'a', engine, spec: {} }], 0);
  const handled = help(id, new AbortController().signal);
  await caught;
  const [folderOfHelper] = await readdir(join(folder, 'scratch'));
  // As many as decoded images would be: removing them takes a while.
  const names = Array.from({ length: 5000 }, (_, i) => join(folder, 'scratch', folderOfHelper!, `${i}`));
  await Promise.all(names.map((name) => writeFile(name, '')));
  await slots.close();
  expect(await readdir(join(folder, 'scratch'))).toEqual([]);
  await handled;
});

it('kills its trainer and writes nothing when the lease is lost', async () => {
  await start(true);
  const { id, trainer } = await stuckJob();
  await sql(`UPDATE jobs SET lease_token = 'another' WHERE id = $1`, [id]);
  await once(trainer, 'close');
  await supervisor!.close();
  expect(await job(id)).toMatchObject({ status: 'running', attempt: 1, error: null });
});

it('says why a lease could not be renewed, and goes on when it can be again', async () => {
  await start(true);
  const { id } = await stuckJob();
  await sql('ALTER TABLE jobs RENAME TO hidden', []);
  const warning = () => logged.find(({ msg }) => msg === 'lease not renewed, trying again');
  await expect.poll(warning, LIMIT).toBeDefined();
  await sql('ALTER TABLE hidden RENAME TO jobs', []);
  expect(warning()).toMatchObject({ job: id, err: { message: expect.stringMatching(/jobs/) } });
  await supervisor!.close();
  expect(await job(id)).toMatchObject({ status: 'queued', attempt: 1, error: null });
});

it('leaves nothing of a job whose lease is lost while it hands in its model', async () => {
  await start();
  const dataset = (await upload(await images())) as 'ds_';
  await expect.poll(async () => (await db.datasets.get(TENANT, dataset))!.status, LIMIT).toBe('ready');
  await builtin();
  const request: AdaptRequest = { kind: 'adapt', task: 'classification', dataset, baseline: false, budget: { max_candidates: 1 } }; // prettier-ignore
  const { id } = (await db.jobs.create(TENANT, request)) as { id: string };
  await queue.add('job.run', { job_id: id }, { dedupe: id });
  const LONG = { timeout: 150_000, interval: 20 };
  await expect.poll(async () => (await job(id)).stage, LONG).toBe('export');
  // From here on nothing of it can be recorded; then another holds it, and it is cancelled.
  const client = new pg.Client({ connectionString: stack.databaseUrl });
  await client.connect();
  await client.query('BEGIN');
  await client.query('SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE', [id]);
  const models = async () => (await left('models/')).length;
  await expect.poll(models, LONG).toBe(5);
  await client.query(`UPDATE jobs SET lease_token = NULL, status = 'cancelled' WHERE id = $1`, [id]);
  await client.query('COMMIT');
  await client.end();
  await expect.poll(models, LIMIT).toBe(0);
  expect(await left()).toEqual((await left()).filter((key) => key.startsWith(`datasets/${dataset}/`)));
  expect(await job(id)).toMatchObject({ status: 'cancelled', result: null });
});

it('takes its child along when it is killed itself', async () => {
  const { port } = tarPit.address() as AddressInfo;
  await mkdir(join(folder, 'scratch'));
  const credentials = { accessKeyId: 'a', secretAccessKey: 'b' };
  const s3 = { bucket: 'stuck', endpoint: `http://127.0.0.1:${port}`, region: 'x', credentials };
  const assignment = {
    kind: 'dataset',
    datasetId: 'ds_1',
    format: null,
    uploadKey: 'u',
    scratch: folder,
    store: { dataDir: folder, s3 },
  };
  const forked = new URL('../lib/forked.js', import.meta.url).href;
  const script = `import { forkChild } from ${JSON.stringify(forked)};
    forkChild(${JSON.stringify(assignment)}, async () => undefined, () => undefined);`;
  const caught = once(tarPit, 'caught');
  const parent = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: 'inherit' });
  const [socket] = (await caught) as [Socket];
  const closed = once(socket, 'close');
  parent.kill('SIGKILL');
  await closed;
});

/** Ids of the direct child processes whose command line holds `script`. */
async function childrenOf(parent: number, script: string): Promise<number[]> {
  const ps = spawn('ps', ['-eo', 'pid=,ppid=,args=']);
  const text = (await buffer(ps.stdout)).toString();
  return text
    .split('\n')
    .map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line))
    .filter((m) => m && Number(m[2]) === parent && m[3]!.includes(script))
    .map((m) => Number(m![1]));
}
