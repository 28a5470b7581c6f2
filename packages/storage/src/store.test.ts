/** What every object store guarantees: one suite over the adapters, S3 on a real server. */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { accessSync, constants, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { InvalidKey, ObjectMissing, openStore, type ObjectStore, type StoreConfig } from './index.js';

const env = process.env;
const gateway = [
  fileURLToPath(new URL('../../../.cache/bin', import.meta.url)),
  ...(env['PATH'] ?? '').split(delimiter),
]
  .map((folder) => join(folder, 'versitygw'))
  .find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
const s3 = env['NTAA_TEST_S3_ENDPOINT'] !== undefined || gateway !== undefined;
if (!s3)
  console.log(
    'Not tested on S3: run scripts/test-services.sh, or set NTAA_TEST_S3_ENDPOINT, NTAA_TEST_S3_BUCKET and the AWS_ keys.',
  );

interface Started {
  config: StoreConfig;
  stop(): Promise<void>;
}
const scratch = mkdtempSync(join(tmpdir(), 'ntaa-store-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function startFiles(): Promise<Started> {
  return Promise.resolve({ config: { dataDir: scratch, s3: null }, stop: () => Promise.resolve() });
}

async function startS3(): Promise<Started> {
  const credentials = {
    accessKeyId: env['AWS_ACCESS_KEY_ID'] ?? 'test-access',
    secretAccessKey: env['AWS_SECRET_ACCESS_KEY'] ?? 'test-secret-key',
  };
  const bucket = env['NTAA_TEST_S3_BUCKET'] ?? 'ntaa-test';
  const config = (endpoint: string): StoreConfig => ({
    dataDir: scratch,
    s3: { bucket, endpoint, region: env['S3_REGION'] ?? 'us-east-1', credentials },
  });
  const given = env['NTAA_TEST_S3_ENDPOINT'];
  if (given) return { config: config(given), stop: () => Promise.resolve() };
  const port = await new Promise<number>((done) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => done(port));
    });
  });
  const root = join(scratch, 's3');
  mkdirSync(join(root, bucket), { recursive: true });
  // A sidecar folder for what would be extended attributes: temporary folders may not support them.
  const sidecar = join(scratch, 'sidecar');
  mkdirSync(sidecar);
  const server = spawn(
    gateway!,
    ['--port', `127.0.0.1:${port}`, '--access', credentials.accessKeyId, '--secret', credentials.secretAccessKey, '--quiet', 'posix', '--sidecar', sidecar, root], // prettier-ignore
    { stdio: 'ignore' },
  );
  const exited = new Promise<void>((done) => server.once('exit', () => done()));
  const endpoint = `http://127.0.0.1:${port}`;
  while ((await fetch(endpoint).catch(() => null)) === null) {
    if (server.exitCode !== null) throw new Error(`versitygw ended with ${server.exitCode}`);
    await sleep(30);
  }
  return {
    config: config(endpoint),
    async stop() {
      server.kill();
      await exited;
    },
  };
}

const text = async (stream: Readable): Promise<string> => (await buffer(stream)).toString();
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe.each(s3 ? (['files', 's3'] as const) : (['files'] as const))('objects on %s', (kind) => {
  let started: Started;
  let store: ObjectStore;
  const root = `t${randomBytes(4).toString('hex')}`;
  beforeAll(async () => {
    started = kind === 's3' ? await startS3() : await startFiles();
    store = await openStore(started.config);
  });
  afterAll(async () => {
    await store?.deletePrefix(`${root}/`);
    await store?.close();
    await started?.stop();
  });
  const keys = async (prefix: string): Promise<string[]> => {
    const found: string[] = [];
    for await (const { key } of store.list(prefix)) found.push(key);
    return found;
  };

  test('what was put is read back, whole and in part', async () => {
    const key = `${root}/a/one.bin`;
    const put = await store.put(key, Buffer.from('0123456789'), { contentType: 'text/plain' });
    expect(put).toEqual({ size: 10, sha256: sha256(Buffer.from('0123456789')) });
    expect(await store.head(key)).toEqual({ size: 10 });
    expect(await text(await store.get(key))).toBe('0123456789');
    expect(await text(await store.get(key, { start: 2, end: 4 }))).toBe('234');
    expect(await text(await store.get(key, { start: 9, end: 9 }))).toBe('9');
    await store.put(key, Readable.from([Buffer.from('new'), Buffer.from('er')]));
    expect(await text(await store.get(key))).toBe('newer');
  });

  test('an empty object, and one of several parts from a stream', async () => {
    expect(await store.put(`${root}/empty`, new Uint8Array())).toMatchObject({ size: 0 });
    expect(await text(await store.get(`${root}/empty`))).toBe('');
    const chunk = randomBytes(2 ** 20);
    const whole = Buffer.concat(Array.from({ length: 18 }, () => chunk));
    const put = await store.put(`${root}/large`, Readable.from(Array.from({ length: 18 }, () => chunk)));
    expect(put).toEqual({ size: whole.length, sha256: sha256(whole) });
    const back = await buffer(await store.get(`${root}/large`));
    expect(sha256(back)).toBe(put.sha256);
  });

  test('a body that fails or is aborted leaves nothing, and the old object as it was', async () => {
    await store.put(`${root}/kept`, Buffer.from('old'));
    const failing = (fail: (body: Readable) => void) => {
      let sent = 0;
      const body = new Readable({
        read() {
          // More than a part of a multipart upload, then trouble.
          if (sent++ < 10) this.push(randomBytes(2 ** 20));
          else fail(body);
        },
      });
      return body;
    };
    for (const key of [`${root}/fresh`, `${root}/kept`]) {
      await expect(store.put(key, failing((body) => body.destroy(new Error('cut off'))))).rejects.toThrow('cut off'); // prettier-ignore
      await expect(
        store.put(
          key,
          failing((body) => body.destroy()),
        ),
      ).rejects.toThrow();
    }
    expect(await store.head(`${root}/fresh`)).toBeNull();
    expect(await text(await store.get(`${root}/kept`))).toBe('old');
    expect(await keys(`${root}/fresh`)).toEqual([]);
    if (kind === 'files') expect(readdirSync(join(scratch, 'objects', '~drafts'))).toEqual([]);
  });

  test('while an object is being replaced, readers see the old or the new one whole', async () => {
    const key = `${root}/swap`;
    const versions = [Buffer.alloc(3e6, 'a'), Buffer.alloc(2e6, 'b')];
    await store.put(key, versions[0]!);
    let writing = true;
    const writer = (async () => {
      for (let i = 1; i <= 6; i++) await store.put(key, versions[i % 2]!);
      writing = false;
    })();
    const hashes = versions.map(sha256);
    while (writing) expect(hashes).toContain(sha256(await buffer(await store.get(key))));
    await writer;
  });

  test('puts at once, of the same key and of others in the same folder, all succeed', async () => {
    await Promise.all(
      Array.from({ length: 16 }, async (_, i) => {
        const key = `${root}/busy/f${i % 8}`;
        await store.put(key, Buffer.from(String(i)));
        if (i % 2) await store.delete(`${root}/busy/x${i}`);
      }),
    );
    expect(await keys(`${root}/busy/`)).toHaveLength(8);
  });

  test('what is not there', async () => {
    expect(await store.head(`${root}/none`)).toBeNull();
    expect(await store.head(`${root}/one.bin/below`)).toBeNull();
    await expect(store.get(`${root}/none`)).rejects.toThrow(ObjectMissing);
    await store.delete(`${root}/none`);
    await store.deletePrefix(`${root}/none/`);
    expect(await keys(`${root}/none/`)).toEqual([]);
  });

  test('lists by prefix, in order; deletes by folder', async () => {
    for (const name of ['d/2', 'd/10', 'd/sub/x', 'dd/1'])
      await store.put(`${root}/list/${name}`, Buffer.from(name));
    expect(await keys(`${root}/list/d`)).toEqual(
      ['d/10', 'd/2', 'd/sub/x', 'dd/1'].map((name) => `${root}/list/${name}`),
    );
    for await (const object of store.list(`${root}/list/d/sub`)) {
      expect(object.size).toBe(7);
      expect(Math.abs(object.modified.getTime() - Date.now())).toBeLessThan(120_000);
    }
    await store.deletePrefix(`${root}/list/d/`);
    expect(await keys(`${root}/list/`)).toEqual([`${root}/list/dd/1`]);
    await expect(store.deletePrefix(`${root}/list`)).rejects.toThrow(InvalidKey);
    await store.delete(`${root}/list/dd/1`);
    expect(await keys(`${root}/list/`)).toEqual([]);
  });

  test.each([
    '',
    '/a',
    'a/',
    'a//b',
    '../a',
    'a/../../b',
    'a/./b',
    'a\\b',
    'a\0b',
    'ä',
    '~drafts/x',
    'x'.repeat(600),
  ])('refuses key %j', async (key) => {
    await expect((async () => store.put(key, Buffer.from('x')))()).rejects.toThrow(InvalidKey);
    await expect((async () => store.get(key))()).rejects.toThrow(InvalidKey);
    await expect((async () => store.delete(key))()).rejects.toThrow(InvalidKey);
  });

  test('presigned URLs download the object under its name, where there are any', async () => {
    await store.put(`${root}/model.onnx`, Buffer.from('weights'));
    const url = await store.presignGet(`${root}/model.onnx`, 60, 'my model.onnx');
    if (kind === 'files') return expect(url).toBeNull();
    const response = await fetch(url!);
    expect(await response.text()).toBe('weights');
    expect(response.headers.get('content-disposition')).toBe('attachment; filename="my_model.onnx"');
  });

  test('ping answers', () => store.ping());
});

test('a store that cannot be used says what to check', async () => {
  const credentials = { accessKeyId: 'a', secretAccessKey: 'b' };
  const config = { bucket: 'none', endpoint: 'http://127.0.0.1:1', region: 'us-east-1', credentials };
  await expect(openStore({ dataDir: scratch, s3: config })).rejects.toThrow(/bucket none.*S3_ENDPOINT/);
});
