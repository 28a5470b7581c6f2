import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, mkdir, readdir, rm } from 'node:fs/promises';
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
import { pino } from 'pino';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import yazl from 'yazl';
import { startStack, type TestStack } from '../../../test/setup/stack.js';
import { startSupervisor, type Supervisor } from './supervisor.js';

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
  await store.close();
  await rm(folder, { recursive: true, force: true });
});

async function start(stuck = false): Promise<void> {
  const { port } = tarPit.address() as AddressInfo;
  const credentials = { accessKeyId: 'a', secretAccessKey: 'b' };
  const s3 = { bucket: 'stuck', endpoint: `http://127.0.0.1:${port}`, region: 'x', credentials };
  const log = pino({ level: 'silent' });
  const scratch = join(folder, 'scratch');
  const settings = stuck ? { ...config, s3 } : config;
  supervisor = await startSupervisor({ config: settings, db, store, log, worker: 'test', scratch }, queue);
}

async function zip(files: Record<string, Buffer>): Promise<Buffer> {
  const archive = new yazl.ZipFile();
  for (const [name, bytes] of Object.entries(files)) archive.addBuffer(bytes, name);
  archive.end();
  return buffer(archive.outputStream);
}

async function images(): Promise<Buffer> {
  const files: Record<string, Buffer> = {};
  for (let i = 0; i < 40; i++) {
    const background = { r: i % 2 ? 255 : 0, g: 6 * i, b: 128 };
    const image = sharp({ create: { width: 16, height: 16, channels: 3, background } });
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
  const request: AdaptRequest = {
    kind: 'adapt',
    task: 'classification',
    dataset: (await readyDataset()) as 'ds_',
  };
  const job = await db.jobs.create(TENANT, request);
  if (typeof job === 'string') throw new Error(job);
  const caught = once(tarPit, 'caught');
  await queue.add('job.run', { job_id: job.id }, { dedupe: job.id });
  const [trainer] = (await caught) as [Socket];
  return { id: job.id, trainer };
}
const job = async (id: string) => (await db.jobs.get(TENANT, id))!;

it('ingests an archive in a child and leaves only the packed dataset', async () => {
  await start();
  const id = await upload(await images());
  await expect.poll(async () => (await db.datasets.get(TENANT, id))!.status, LIMIT).toBe('ready');
  const dataset = (await db.datasets.get(TENANT, id))!;
  expect(dataset.counts).toMatchObject({ images: 40, classes: 2 });
  await expect.poll(() => store.head(`uploads/${id}`), LIMIT).toBeNull();
  const keys: string[] = [];
  for await (const { key } of store.list('')) keys.push(key);
  const files = ['images.bin', 'index.json', 'packed-24.bin', 'packed-32.bin'];
  expect(keys.sort()).toEqual(files.map((file) => `datasets/${id}/${file}`));
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
  await expect.poll(() => store.head(`uploads/${id}`), LIMIT).toBeNull();
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

it('kills its trainer and writes nothing when the lease is lost', async () => {
  await start(true);
  const { id, trainer } = await stuckJob();
  const { databaseUrl } = stack;
  const { default: pg } = await import('pg');
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query(`UPDATE jobs SET lease_token = 'another' WHERE id = $1`, [id]);
  await client.end();
  await once(trainer, 'close');
  await supervisor!.close();
  expect(await job(id)).toMatchObject({ status: 'running', attempt: 1, error: null });
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
