/**
 * One job on many workers: its result must not depend on how many there are, how fast they are, or whether they live.
 * The service as `npm start` runs it, with real processes that are really killed.
 */
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { NtaaClient } from '@ntaa/client';
import type { Job } from '@ntaa/contracts';
import { Rng } from '@ntaa/random';
import pg from 'pg';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { ZipFile } from 'yazl';
import { launch, stop, type Service } from './setup/service.js';
import { startStack, type TestStack } from './setup/stack.js';
import { unzip } from './setup/unzip.js';

/** A service with so many workers of one thread, on a database and images of its own. */
class Fleet {
  readonly folder: string;
  readonly client: NtaaClient;
  readonly sql: pg.Client;
  readonly #stack: TestStack;
  readonly #service: Service;

  private constructor(folder: string, stack: TestStack, service: Service, sql: pg.Client) {
    this.folder = folder;
    this.client = new NtaaClient({ baseUrl: service.url, apiKey: service.key });
    this.sql = sql;
    this.#stack = stack;
    this.#service = service;
  }

  static async start(workers: number): Promise<Fleet> {
    const stack = await startStack();
    const folder = await mkdtemp(join(tmpdir(), 'ntaa-fleet-'));
    const service = await launch(folder, {
      DATABASE_URL: stack.databaseUrl,
      NTAA_WORKERS: String(workers),
      NTAA_THREADS: '1',
      NTAA_ENGINE: 'wasm',
    });
    const sql = new pg.Client({ connectionString: stack.databaseUrl });
    await sql.connect();
    const fleet = new Fleet(folder, stack, service, sql);
    const there = async () => (await fleet.count('SELECT count(*) FROM workers')) === workers;
    await vi.waitUntil(there, { timeout: 60_000 });
    return fleet;
  }

  async count(query: string): Promise<number> {
    return Number((await this.sql.query<{ count: string }>(query)).rows[0]!.count);
  }

  async dataset(archive: string): Promise<string> {
    const { id } = await this.client.uploadDataset(archive, { name: 'pictures' });
    expect((await this.client.datasetSettled(id)).status).toBe('ready');
    return id;
  }

  /** A job's bundle. `meanwhile` is called again and again until the job ends. */
  async run(request: object, meanwhile: (job: Job) => Promise<void> = async () => undefined) {
    const { id } = await this.client.createJob(request as Parameters<NtaaClient['createJob']>[0]);
    for (;;) {
      const job = await this.client.job(id);
      if (job.finished_at !== null) {
        expect(job.status, JSON.stringify(job.error)).toBe('succeeded');
        return job;
      }
      await meanwhile(job);
      await sleep(50);
    }
  }

  async files(job: Job): Promise<Map<string, Buffer>> {
    const path = join(this.folder, `${job.id}.zip`);
    await this.client.download(job.result!.model!, path, 'bundle');
    return unzip(path);
  }

  async close(): Promise<void> {
    await this.sql.end();
    await stop(this.#service);
    await this.#stack.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

let folder: string;
let archive: string;
let source: string;
let alone: Fleet;
let three: Fleet;

/** 16 px; four kinds that differ in what rows or columns are bright. */
async function picture(serial: number): Promise<Buffer> {
  const rng = new Rng('picture', serial);
  const kind = serial % 4;
  const phase = rng.int(4);
  const pixels = Buffer.from({ length: 256 } as ArrayLike<number>).map((_, i) => {
    const along = kind % 2 ? i % 16 : i >> 4;
    const on = ((along + phase) >> (kind >> 1)) % 2;
    return Math.max(0, Math.min(255, (on ? 170 : 90) + 40 * rng.normal()));
  });
  return sharp(pixels, { raw: { width: 16, height: 16, channels: 1 } })
    .png()
    .toBuffer();
}

async function archiveOf(count: number): Promise<string> {
  const path = join(folder, `${count}.zip`);
  const zip = new ZipFile();
  for (let i = 0; i < count; i++) zip.addBuffer(await picture(i), `${i % 4}/${i}.png`);
  zip.end();
  await finished(zip.outputStream.pipe(createWriteStream(path)));
  return path;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ntaa-fan-out-'));
  [archive, source] = [await archiveOf(500), await archiveOf(2000)];
  alone = await Fleet.start(1);
  three = await Fleet.start(3);
}, 120_000);
afterAll(async () => {
  await alone?.close();
  await three?.close();
  await rm(folder, { recursive: true, force: true });
});

const WEIGHTS = ['model.onnx', 'model.safetensors'];

let pictures: { alone: string; three: string };

/** A search that is all evaluations, and one that also trains shared weights. */
it.each([
  ['linear evaluation', { paradigm: 'linear-evaluation', budget: { max_candidates: 72 } }, 2],
  ['joint adaptation', { budget: { max_candidates: 16 } }, 1],
])(
  '%s: the same model on one worker and on three of which some are killed',
  async (_, kind, kills) => {
    pictures ??= { alone: await alone.dataset(archive), three: await three.dataset(archive) };
    const common = { kind: 'adapt', task: 'classification', seed: 2, baseline: false, ...kind };
    const reference = await alone.run({ ...common, dataset: pictures.alone }, async () => {
      expect(await alone.count('SELECT count(*) FROM pieces')).toBe(0);
    });
    /** Pieces that others did. */
    const seen = new Set<string>();
    let killed = 0;
    const job = await three.run({ ...common, dataset: pictures.three }, async ({ id }) => {
      const { rows } = await three.sql.query<{ id: string; worker: string; held: boolean }>(
        // Not those that are a helper's start and nothing else.
        `SELECT id, worker, lease_token IS NOT NULL AS held FROM pieces
         WHERE job_id = $1 AND worker IS NOT NULL AND spec->>'subject' IS NOT NULL`,
        [id],
      );
      for (const row of rows) if (!row.held) seen.add(row.id);
      const at = rows.find(({ held }) => held);
      if (!at || killed === kills) return;
      // First whoever helps, in the middle of a piece; then the job's own worker.
      const own = await three.sql.query<{ worker: string }>('SELECT worker FROM jobs WHERE id = $1', [id]);
      const victim = killed === 0 ? at.worker : own.rows[0]!.worker;
      if (victim === null) return;
      process.kill(Number(/\d+$/.exec(victim)![0]), 'SIGKILL');
      killed += 1;
      if (killed === 1) await sleep(1000);
    });
    expect(killed).toBe(kills);
    expect(job.attempt).toBe(kills);
    expect(seen.size).toBeGreaterThan(0);
    expect(job.result!.search).toEqual(reference.result!.search);
    expect(job.result!.curves).toEqual(reference.result!.curves);
    const [one, other] = [await alone.files(reference), await three.files(job)];
    for (const name of WEIGHTS) expect(other.get(name)!.equals(one.get(name)!), name).toBe(true);
    expect(await three.count('SELECT count(*) FROM pieces')).toBe(0);
  },
  240_000,
);

it('pretraining: the same supernet, and the same figures of it, whoever measured them', async () => {
  const request = (dataset: string) => ({ kind: 'pretrain', dataset, budget: { max_epochs: 1 }, seed: 1 });
  const supernets = [];
  let helped = 0;
  for (const fleet of [alone, three]) {
    const job = await fleet.run(request(await fleet.dataset(source)), async () => {
      helped = Math.max(helped, await fleet.count('SELECT count(*) FROM pieces WHERE worker IS NOT NULL'));
    });
    const { sha256, metrics } = await fleet.client.supernet(job.result!.supernet!);
    supernets.push({ sha256, subnets: metrics['subnets'] });
  }
  expect(helped).toBeGreaterThan(0);
  expect(supernets[1]).toEqual(supernets[0]);
}, 240_000);

it('a job that comes takes its place from a helper at once, and both end with the same model', async () => {
  const dataset = (pictures ??= { alone: await alone.dataset(archive), three: await three.dataset(archive) })
    .three;
  const more = { paradigm: 'linear-evaluation', budget: { max_candidates: 72 } };
  const request = { kind: 'adapt', task: 'classification', seed: 2, baseline: false, dataset, ...more };
  const others: string[] = [];
  /** Milliseconds from a submission to its start. */
  const waited: number[] = [];
  const first = await three.run(request, async () => {
    const busy = await three.count(
      'SELECT count(*) FROM pieces WHERE worker IS NOT NULL AND lease_token IS NOT NULL',
    );
    if (busy < 2 || others.length > 0) return;
    for (let i = 0; i < 2; i++) {
      const { id } = await three.client.createJob(request as Parameters<NtaaClient['createJob']>[0]);
      others.push(id);
    }
    for (const id of others) {
      const began = async () => (await three.client.job(id)).started_at !== null;
      await vi.waitUntil(began, { timeout: 20_000 });
      const { created_at: created, started_at: started } = await three.client.job(id);
      waited.push(Date.parse(started!) - Date.parse(created));
    }
  });
  expect(waited).toHaveLength(2);
  expect(Math.max(...waited)).toBeLessThan(5000);
  const one = await three.files(first);
  for (const id of others) {
    const ended = async () => (await three.client.job(id)).finished_at !== null;
    await vi.waitUntil(ended, { timeout: 120_000, interval: 200 });
    const other = await three.files(await three.client.job(id));
    for (const name of WEIGHTS) expect(other.get(name)!.equals(one.get(name)!), name).toBe(true);
  }
}, 240_000);
