/** What every object store guarantees: one suite over the adapters, S3 on a real server. */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasS3, startS3 } from '../../../test/setup/s3.js';
import { InvalidKey, ObjectMissing, openStore, PartSize, type ObjectStore, type Part } from './index.js';

const scratch = mkdtempSync(join(tmpdir(), 'ntaa-store-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const text = async (stream: Readable): Promise<string> => (await buffer(stream)).toString();
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe.each(hasS3 ? (['files', 's3'] as const) : (['files'] as const))('objects on %s', (kind) => {
  let started: Awaited<ReturnType<typeof startS3>> | undefined;
  let store: ObjectStore;
  const root = `t${randomBytes(4).toString('hex')}`;
  beforeAll(async () => {
    if (kind === 's3') started = await startS3(scratch);
    store = await openStore({ dataDir: scratch, s3: started?.s3 ?? null });
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
    // So early that nothing may have been opened yet.
    const early = Array.from({ length: 50 }, (_, i) => {
      const body = new Readable({ read: () => undefined });
      const sent = store.put(`${root}/fresh`, body);
      setTimeout(() => body.destroy(new Error('at once')), i / 20);
      return expect(sent).rejects.toThrow('at once');
    });
    await Promise.all(early);
    // What is opened late would appear late.
    await sleep(100);
    expect(await store.head(`${root}/fresh`)).toBeNull();
    expect(await text(await store.get(`${root}/kept`))).toBe('old');
    expect(await keys(`${root}/fresh`)).toEqual([]);
    if (kind === 'files') expect(readdirSync(join(scratch, 'objects', '~drafts'))).toEqual([]);
  });

  test.runIf(kind === 'files')(
    'what a killed process was writing is swept, what a living one writes is not',
    async () => {
      const left = () => readdirSync(join(scratch, 'objects', '~drafts'));
      const index = new URL('../lib/index.js', import.meta.url).href;
      const endless = `
      const { openStore } = await import(${JSON.stringify(index)});
      const store = await openStore({ dataDir: ${JSON.stringify(scratch)}, s3: null });
      const body = new (await import('node:stream')).Readable({ read() {} });
      body.push('x');
      setTimeout(() => {}, 60_000);
      await store.put('killed', body);`;
      const child = spawn(process.execPath, ['--input-type=module', '-e', endless]);
      const body = new Readable({ read: () => undefined });
      const living = store.put(`${root}/living`, body);
      await expect.poll(left, { timeout: 10_000 }).toHaveLength(2);
      child.kill('SIGKILL');
      await once(child, 'exit');
      await store.sweep();
      expect(left()).toHaveLength(1);
      body.push(null);
      await living;
      expect(left()).toEqual([]);
    },
  );

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
    await store.delete(`${root}/none/of/these`);
    await store.put(`${root}/twice/deep/x`, Buffer.from('x'));
    await Promise.all(Array.from({ length: 8 }, () => store.delete(`${root}/twice/deep/x`)));
    await store.deletePrefix(`${root}/none/`);
    expect(await keys(`${root}/none/`)).toEqual([]);
  });

  test('several delete the same folder at once, and none fails for what another has deleted', async () => {
    for (let round = 0; round < 5; round++) {
      const names = Array.from({ length: 20 }, (_, i) => `${root}/shared/${i % 3}/${i}`);
      await Promise.all(names.map((name) => store.put(name, Buffer.from(name))));
      await Promise.all(Array.from({ length: 4 }, () => store.deletePrefix(`${root}/shared/`)));
      expect(await keys(`${root}/shared/`)).toEqual([]);
    }
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

  describe('an object in parts', () => {
    const MIB = 2 ** 20;
    const bytes = randomBytes(11 * MIB + 7);
    const parts: Part[] = [0, 5, 10].map((start, i) => {
      const offset = start * MIB;
      return { number: i + 1, offset, size: Math.min(5 * MIB, bytes.length - offset) };
    });
    const slice = ({ offset, size }: Part) => bytes.subarray(offset, offset + size);
    type Target = { key: string; handle: string };
    const begin = async (name: string): Promise<Target> => {
      const key = `${root}/parts/${name}`;
      return { key, handle: await store.parts.begin(key) };
    };
    /** As a client or, where there are no URLs, the service does it. */
    async function send(target: Target, part: Part, body: Buffer = slice(part)): Promise<void> {
      const url = await store.parts.presign(target, part, 60);
      expect(url === null).toBe(kind === 'files');
      if (url === null) return store.parts.put(target, part, Readable.from([body]));
      const response = await fetch(url, { method: 'PUT', body });
      expect(response.status, await response.text()).toBe(200);
    }

    test('is seen once it is joined, whatever the order its parts came in', async () => {
      const target = await begin('whole');
      expect(await store.parts.list(target)).toEqual(new Map());
      await Promise.all([send(target, parts[2]!), send(target, parts[0]!)]);
      expect(await store.parts.list(target)).toEqual(new Map([[1, parts[0]!.size], [3, parts[2]!.size]])); // prettier-ignore
      // Sent again, and first with other bytes: the last ones count.
      await send(target, parts[1]!, randomBytes(parts[1]!.size));
      await send(target, parts[1]!);
      expect(await store.head(target.key)).toBeNull();
      expect(await keys(`${root}/parts/`)).toEqual([]);
      await store.parts.join(target);
      expect(await store.head(target.key)).toEqual({ size: bytes.length });
      expect(sha256(await buffer(await store.get(target.key)))).toBe(sha256(bytes));
      await expect(store.parts.list(target)).rejects.toThrow(ObjectMissing);
    });

    test('that is aborted leaves nothing', async () => {
      const target = await begin('aborted');
      await send(target, parts[0]!);
      await store.parts.abort(target);
      await store.parts.abort(target);
      await expect(store.parts.list(target)).rejects.toThrow(ObjectMissing);
      expect(await store.head(target.key)).toBeNull();
      if (kind === 'files') expect(readdirSync(join(scratch, 'objects', '~parts'))).toEqual([]);
    });

    test.runIf(kind === 'files')('counts a part only when it has its size and arrived whole', async () => {
      const target = await begin('sizes');
      const [part] = parts;
      const put = (body: Readable) => store.parts.put(target, part!, body);
      await send(target, part!);
      await expect(put(Readable.from([slice(part!), Buffer.from('x')]))).rejects.toThrow(PartSize);
      await expect(put(Readable.from([Buffer.from('x')]))).rejects.toThrow(PartSize);
      async function* broken() {
        yield Buffer.from('x');
        throw new Error('cut off');
      }
      await expect(put(Readable.from(broken()))).rejects.toThrow('cut off');
      expect(await store.parts.list(target)).toEqual(new Map());
      await store.parts.abort(target);
      await expect(store.parts.list({ ...target, handle: '../../../etc' })).rejects.toThrow(/handle/);
    });
  });

  test('ping answers', () => store.ping());
});

test('a store that cannot be used says what to check', async () => {
  const credentials = { accessKeyId: 'a', secretAccessKey: 'b' };
  const config = { bucket: 'none', endpoint: 'http://127.0.0.1:1', region: 'us-east-1', credentials };
  await expect(openStore({ dataDir: scratch, s3: config })).rejects.toThrow(/bucket none.*S3_ENDPOINT/);
});
