/** The real service for tests: API, Postgres, its queue and file storage, on a free port. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { newId, type ClassificationMetrics, type DatasetReport, type JobRequest } from '@ntaa/contracts';
import { openDatabase, type Claim, type Database, type StoredFile } from '@ntaa/db';
import { countArchitectures, handDesigned, tinySpace } from '@ntaa/nas';
import { openQueue, type Queue } from '@ntaa/queue';
import { openStore, type ObjectStore, type S3Settings } from '@ntaa/storage';
import { buildApp, type App, type Limits } from '../../apps/api/src/app.js';
import { startStack, type TestStack } from './stack.js';

export interface ApiStack {
  readonly url: string;
  readonly app: App;
  readonly db: Database;
  readonly queue: Queue;
  readonly store: ObjectStore;
  readonly databaseUrl: string;
  /** Secrets of keys: `admin`, `read` and `write` of the default tenant, `stranger` an admin of another. */
  readonly keys: Readonly<Record<'admin' | 'read' | 'write' | 'stranger', string>>;
  close(): Promise<void>;
}

export async function startApi(
  options: {
    limits?: Partial<Limits>;
    maxUploadBytes?: number;
    stack?: TestStack;
    /** Default: files. */
    s3?: S3Settings | null;
  } = {},
): Promise<ApiStack> {
  const stack = options.stack ?? (await startStack());
  const dataDir = await mkdtemp(join(tmpdir(), 'ntaa-api-'));
  const db = await openDatabase(stack.databaseUrl);
  const queue = await openQueue({ databaseUrl: stack.databaseUrl });
  const s3 = options.s3 ?? null;
  const store = await openStore({ dataDir, s3 });
  const config = {
    host: '127.0.0.1',
    port: 0,
    apiKey: null,
    dataDir,
    workers: 0,
    engine: 'auto' as const,
    threads: 2,
    databaseUrl: stack.databaseUrl,
    redisUrl: null,
    s3,
    logLevel: 'silent' as const,
    maxUploadBytes: options.maxUploadBytes ?? 512 * 2 ** 20,
    // Receivers of tests are on this machine.
    webhookAllow: ['127.0.0.1'],
    trustedProxies: [],
    tracing: null,
  };
  const secret = async (scopes: string[], tenant = 'default') =>
    (await db.keys.create({ name: scopes.join(), scopes, tenant })).secret;
  const keys = {
    admin: await secret(['admin']),
    read: await secret(['read']),
    write: await secret(['write']),
    stranger: await secret(['admin'], 'other'),
  };
  // A busy test machine must not look like an overloaded server.
  const limits = { requestsPerSecond: 10_000, ...options.limits };
  const app = await buildApp({ db, queue, store, config, limits });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  return {
    ...{ url, app, db, queue, store, keys, databaseUrl: stack.databaseUrl },
    async close() {
      await app.close();
      await store.close();
      await queue.close();
      await db.close();
      await stack.close();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

const REPORT: DatasetReport = { error: null, skipped: [], warnings: [], sizes: null };

/** A dataset as a worker leaves it, without the images. */
export async function readyDataset({ db }: ApiStack, tenant = 'default', classes = 3): Promise<string> {
  const id = newId('ds');
  const upload = { uploadKey: `datasets/${id}/upload`, sha256: 'ab'.repeat(32), bytes: 1 };
  await db.datasets.create({ id, name: 'test', format: null, tenant, ...upload });
  const counts = { images: 100, skipped: 0, bytes: 1000, classes, splits: null };
  const labels = Array.from({ length: classes }, (_, i) => ({ name: `class ${i}`, count: 10 }));
  await db.datasets.markReady(id, { format: 'image-folder', counts, labels, report: REPORT, pack: {} });
  return id;
}

/** The built-in supernet, as the service registers it at start. */
export async function builtinSupernet({ db }: ApiStack): Promise<void> {
  await db.supernets.upsertBuiltin({
    name: 'tiny',
    source: 'formula-driven images',
    paradigm: 'supervised',
    search_space: tinySpace,
    architectures: countArchitectures(tinySpace),
    params: 1,
    size_bytes: 4,
    sha256: 'cd'.repeat(32),
    metrics: {},
  });
}

export const adaptRequest = (dataset: string, more: object = {}): JobRequest =>
  ({ kind: 'adapt', task: 'classification', dataset, ...more }) as JobRequest;

/** A job that a worker has taken. */
export async function claimedJob(api: ApiStack, tenant = 'default'): Promise<Claim> {
  const job = await api.db.jobs.create(tenant, adaptRequest(await readyDataset(api, tenant)));
  if (typeof job === 'string') throw new Error(job);
  const claim = await api.db.jobs.claim(job.id, 'test', 60_000);
  if (!claim) throw new Error(`${job.id} was not claimed`);
  return claim;
}

const METRICS: ClassificationMetrics = {
  top1: 0.9,
  top1_interval: [0.8, 0.95],
  top5: 1,
  balanced_accuracy: 0.9,
  loss: 0.3,
  images: 50,
};

/** Ends a claimed job with a model whose stored files are given. Returns the model's id. */
export async function succeedWithModel(
  { db }: ApiStack,
  claim: Claim,
  storage: Partial<Record<'onnx' | 'bundle' | 'report', StoredFile>>,
): Promise<string> {
  const id = newId('mdl');
  const genotype = handDesigned(tinySpace);
  const costs = { macs: 1e6, params: 1000, metrics: METRICS };
  const lineage = {
    job: claim.lease.jobId,
    supernet: 'tiny',
    supernet_sha256: 'cd'.repeat(32),
    dataset: String(claim.job.request['dataset']),
    dataset_sha256: 'ab'.repeat(32),
    seed: 0,
    engine: 'test',
    version: '0',
  };
  await db.jobs.succeed(claim.lease, {
    result: { model: id, ...costs },
    stopReason: 'completed',
    model: {
      ...{
        id,
        task: 'classification',
        labels: ['red', 'green', 'blue'],
        genotype,
        ...costs,
        lineage,
        storage,
      },
      preprocessing: {
        ...{ width: 4, height: 4, channels: 'RGB', fit: 'fill', kernel: 'linear', scale: 1 / 255 },
        ...{ background: { r: 0, g: 0, b: 0 }, mean: [0, 0, 0], std: [1, 1, 1] },
      },
      files: Object.values(storage).map(({ filename, sha256, size }) => ({ path: filename, sha256, size })),
    },
  });
  return id;
}
