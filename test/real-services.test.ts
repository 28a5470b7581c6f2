/** The service as an operator runs it: its own Postgres, Redis and S3 server, nothing embedded. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { finished } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { NtaaClient } from '@ntaa/client';
import { openStore } from '@ntaa/storage';
import pg from 'pg';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ZipFile } from 'yazl';
import { launch, processesOf, stop, type Service } from './setup/service.js';
import { installedPostgres, startStack, type TestStack } from './setup/stack.js';
import { unzip } from './setup/unzip.js';

const gateway = [
  fileURLToPath(new URL('../.cache/bin', import.meta.url)),
  ...(process.env['PATH'] ?? '').split(delimiter),
]
  .map((folder) => join(folder, 'versitygw'))
  .find((path) => existsSync(path));
const missing = [
  ...(installedPostgres() ? [] : ['Postgres']),
  ...['redis-server', 'redis-cli'].filter((command) => spawnSync(command, ['--version']).status !== 0),
  ...(gateway ? [] : ['an S3 server']),
];
if (missing.length)
  console.log(`Whole service not tested on real services, without ${missing.join(', ')}: run scripts/test-services.sh.`); // prettier-ignore

const S3 = { bucket: 'ntaa-test', region: 'us-east-1' };
const CREDENTIALS = { accessKeyId: 'test-access', secretAccessKey: 'test-secret-key' };

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((listening) => probe.listen(0, '127.0.0.1', listening));
  const { port } = probe.address() as AddressInfo;
  await new Promise((closed) => probe.close(closed));
  return port;
}

/** An 8 px grey picture of one of three classes, which differ in what rows are bright. */
function picture(serial: number): Promise<Buffer> {
  const bright = (pixel: number): boolean => (pixel >> 3) % 3 === serial % 3;
  const pixels = Array.from({ length: 64 }, (_, p) => (bright(p) ? 180 : 60) + ((p * 7 + serial * 13) % 40));
  return sharp(Buffer.from(pixels), { raw: { width: 8, height: 8, channels: 1 } })
    .png()
    .toBuffer();
}

async function archive(path: string): Promise<void> {
  const zip = new ZipFile();
  for (let i = 0; i < 90; i++) zip.addBuffer(await picture(i), `rows ${i % 3}/${i}.png`);
  zip.end();
  await finished(zip.outputStream.pipe(createWriteStream(path)));
}

describe.skipIf(missing.length)('on real Postgres, Redis and S3', () => {
  const servers: ChildProcess[] = [];
  let folder: string;
  let postgres: TestStack;
  let service: Service;
  let redis: number;
  let endpoint: string;

  /** Starts a server and resolves once it accepts connections on `port`. */
  async function serve(port: number, command: string, args: string[]): Promise<void> {
    const server = spawn(command, args, { stdio: 'ignore' });
    servers.push(server);
    const listens = async (): Promise<boolean> => {
      if (server.exitCode !== null) throw new Error(`${command} ended with ${server.exitCode}`);
      const socket = connect(port, '127.0.0.1');
      return once(socket, 'connect').then(
        () => Boolean(socket.destroy()),
        () => false,
      );
    };
    await vi.waitUntil(listens, { timeout: 30_000 });
  }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ntaa-real-'));
    redis = await freePort();
    const s3 = await freePort();
    endpoint = `http://127.0.0.1:${s3}`;
    const [files, sidecar] = [join(folder, 's3'), join(folder, 'sidecar')];
    for (const path of [join(files, S3.bucket), sidecar, join(folder, 'data')])
      await mkdir(path, { recursive: true });
    const [access, secret] = [CREDENTIALS.accessKeyId, CREDENTIALS.secretAccessKey];
    [postgres] = await Promise.all([
      startStack('installed'),
      serve(redis, 'redis-server', ['--port', `${redis}`, '--bind', '127.0.0.1', '--save', '', '--dir', folder]), // prettier-ignore
      serve(s3, gateway!, ['--port', `127.0.0.1:${s3}`, '--access', access, '--secret', secret, '--quiet', 'posix', '--sidecar', sidecar, files]), // prettier-ignore
    ]);
    service = await launch(join(folder, 'data'), {
      ...{ DATABASE_URL: postgres.databaseUrl, REDIS_URL: `redis://127.0.0.1:${redis}` },
      ...{ S3_BUCKET: S3.bucket, S3_ENDPOINT: endpoint, S3_REGION: S3.region },
      ...{ AWS_ACCESS_KEY_ID: access, AWS_SECRET_ACCESS_KEY: secret },
    });
  });

  afterAll(async () => {
    if (service) await stop(service);
    await postgres?.close();
    const gone = servers.map((server) => new Promise((exited) => server.once('exit', exited)));
    servers.forEach((server) => server.kill());
    await Promise.all(gone);
    await rm(folder, { recursive: true, force: true });
  });

  it('runs a job from upload to download, and keeps nothing of it on its own disk', async () => {
    const client = new NtaaClient({ baseUrl: service.url, apiKey: service.key });
    const path = join(folder, 'images.zip');
    await archive(path);
    const dataset = await client.datasetSettled((await client.uploadDataset(path, { name: 'rows' })).id);
    expect(dataset.status, JSON.stringify(dataset.report)).toBe('ready');
    const { id } = await client.createJob({
      ...{ kind: 'adapt', task: 'classification', dataset: dataset.id, baseline: false },
      budget: { max_candidates: 3 },
    });
    const types = new Set<string>();
    for await (const { type } of client.events(id)) types.add(type);
    expect([...types]).toEqual(expect.arrayContaining(['stage', 'candidate', 'done']));
    const job = await client.job(id);
    expect(job.status, JSON.stringify(job.error)).toBe('succeeded');
    await client.download(job.result!.model!, join(folder, 'model.zip'), 'bundle');
    expect((await unzip(join(folder, 'model.zip'))).has('model.onnx')).toBe(true);
    const image = { filename: 'low.png', bytes: await picture(0) };
    const [prediction] = await client.predict(job.result!.model!, [image]);
    expect(prediction).toMatchObject({ probabilities: expect.objectContaining({ length: 3 }) });

    // The three servers did the work: rows in Postgres, the queue in Redis, objects in the bucket.
    const database = new pg.Client({ connectionString: postgres.databaseUrl });
    await database.connect();
    const jobs = await database.query('SELECT id FROM jobs');
    await database.end();
    expect(jobs.rows).toEqual([{ id }]);
    const keysInRedis = spawnSync('redis-cli', ['-p', `${redis}`, 'keys', 'ntaa:*'], { encoding: 'utf8' });
    expect(keysInRedis.stdout).toMatch(/^ntaa:/);
    const store = await openStore({
      dataDir: folder,
      s3: { ...S3, endpoint, credentials: CREDENTIALS },
    });
    const keys: string[] = [];
    for await (const { key } of store.list('')) keys.push(key);
    await store.close();
    expect(keys.some((key) => key.startsWith('datasets/'))).toBe(true);
    expect(keys.some((key) => key.startsWith('models/'))).toBe(true);
    expect(await stop(service)).toBe(0);
    expect(await processesOf(join(folder, 'data'))).toEqual([]);
    expect(await readdir(join(folder, 'data'))).toEqual(['api-key']);
  }, 300_000);
});
