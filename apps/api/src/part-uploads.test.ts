/** Archives that arrive in parts, on files (the service takes the parts) and on S3 (the bucket does). */
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { NtaaClient } from '@ntaa/client';
import type { Upload } from '@ntaa/contracts';
import pg from 'pg';
import request from 'supertest';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startApi, type ApiStack } from '../../../test/setup/api.js';
import { hasS3, startS3 } from '../../../test/setup/s3.js';

const MIB = 2 ** 20;
const ARCHIVE = Buffer.concat([Buffer.from('PK\x03\x04'), randomBytes(11 * MIB)]);

describe.each(hasS3 ? (['files', 's3'] as const) : (['files'] as const))('on %s', (kind) => {
  let folder: string;
  let server: Awaited<ReturnType<typeof startS3>> | undefined;
  let api: ApiStack;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ntaa-parts-'));
    if (kind === 's3') server = await startS3(folder);
    // So little for one request that the archive has three parts.
    api = await startApi({ maxUploadBytes: 5 * MIB, s3: server?.s3 ?? null });
  });
  afterAll(async () => {
    await api?.close();
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const as = (key: keyof ApiStack['keys']) => ({ authorization: `Bearer ${api.keys[key]}` });
  const post = (path: string, body: object, key: keyof ApiStack['keys'] = 'write') =>
    request(api.url).post(path).set(as(key)).send(body);
  const begin = async (size = ARCHIVE.length, filename?: string): Promise<Upload> => {
    const { status, body } = await post('/v1/uploads', { size, filename });
    expect(status, JSON.stringify(body)).toBe(201);
    return body as Upload;
  };
  const get = (id: string, key: keyof ApiStack['keys'] = 'write') =>
    request(api.url).get(`/v1/uploads/${id}`).set(as(key));
  const send = (part: Upload['parts'][number], bytes: Buffer = ARCHIVE) =>
    fetch(part.url, { method: 'PUT', body: bytes.subarray(part.offset, part.offset + part.size) });
  const objects = async (): Promise<string[]> => {
    const keys = [];
    for await (const { key } of api.store.list('')) keys.push(key);
    return keys;
  };

  test('becomes a dataset once all of it has arrived', async () => {
    const upload = await begin(ARCHIVE.length, 'birds.zip');
    expect(upload).toMatchObject({
      object: 'upload',
      part_size: 5 * MIB,
      dataset: null,
      size: ARCHIVE.length,
    });
    expect(upload.parts.map(({ number, offset, size }) => [number, offset, size])).toEqual([
      [1, 0, 5 * MIB],
      [2, 5 * MIB, 5 * MIB],
      [3, 10 * MIB, MIB + 4],
    ]);
    expect(new URL(upload.parts[0]!.url).origin === api.url).toBe(kind === 'files');
    const [first, second, third] = upload.parts;
    for (const part of [third!, first!]) expect((await send(part)).status).toBe(200);
    const partial = await get(upload.id);
    expect(partial.body.parts.map((part: { received: boolean }) => part.received)).toEqual([
      true,
      false,
      true,
    ]);
    const early = await post('/v1/datasets', { upload: upload.id });
    expect(early.status).toBe(409);
    expect(early.body.errors).toEqual([
      { pointer: '/upload', code: 'parts-missing', detail: 'lacks 1 parts: 2' },
    ]);
    expect((await send(second!)).status).toBe(200);
    expect((await post('/v1/datasets', { upload: upload.id }, 'stranger')).status).toBe(422);
    const made = await Promise.all([0, 1, 2].map(() => post('/v1/datasets', { upload: upload.id })));
    expect(made.map(({ status }) => status).sort()).toEqual([202, 409, 409]);
    const { body, headers } = made.find(({ status }) => status === 202)!;
    expect(body).toMatchObject({ name: 'birds.zip', status: 'validating', sha256: null, object: 'dataset' });
    expect(headers['location']).toBe(`/v1/datasets/${body.id}`);
    expect(await api.store.head(`uploads/${upload.id}/archive`)).toEqual({ size: ARCHIVE.length });
    expect((await get(upload.id)).body).toMatchObject({ dataset: body.id, parts: [] });
    expect((await api.db.datasets.forWorker(body.id))!.uploadKey).toBe(`uploads/${upload.id}/archive`);
    // Refused, by an answer or by hanging up.
    expect(
      await send(first!).then(
        ({ ok }) => ok,
        () => false,
      ),
    ).toBe(false);
    // What the worker does with an archive, and what is left of it then.
    const report = { error: null, skipped: [], warnings: [], sizes: null };
    await api.db.datasets.markInvalid(body.id, report);
    await expect.poll(objects).toEqual([]);
  });

  test('the client sends a file of any size', async () => {
    const path = join(folder, 'file.zip');
    await writeFile(path, ARCHIVE);
    const client = new NtaaClient({ baseUrl: api.url, apiKey: api.keys.write });
    const dataset = await client.uploadDatasetInParts(path, { name: 'mine', format: 'csv' });
    expect(dataset).toMatchObject({ name: 'mine', status: 'validating' });
    const { uploadKey, format, bytes } = (await api.db.datasets.forWorker(dataset.id))!;
    expect({ format, bytes }).toEqual({ format: 'csv', bytes: (await stat(path)).size });
    const stored = [];
    for await (const chunk of await api.store.get(uploadKey)) stored.push(chunk as Buffer);
    expect(Buffer.concat(stored).equals(ARCHIVE)).toBe(true);
  });

  test('what is not an archive, not known, not asked for rightly', async () => {
    const upload = await begin(100);
    expect((await send(upload.parts[0]!, Buffer.alloc(100, 'x'))).status).toBe(200);
    for (let i = 0; i < 2; i++)
      expect((await post('/v1/datasets', { upload: upload.id })).body.code).toBe('unsupported-media-type');
    const unknown = await post('/v1/datasets', { upload: 'up_nope' });
    expect([unknown.status, unknown.body.errors[0].code]).toEqual([422, 'unknown-upload']);
    expect((await post('/v1/datasets', { upload: 'nope', format: 'x', extra: 1 })).body.errors.map((e: { pointer: string }) => e.pointer).sort()).toEqual(['/extra', '/format', '/upload']); // prettier-ignore
    for (const body of [{}, { size: 0 }, { size: 1.5 }, { size: '1' }, { size: 1, filename: '' }])
      expect((await post('/v1/uploads', body)).status, JSON.stringify(body)).toBe(422);
    const huge = await post('/v1/uploads', { size: 1e15 });
    expect([huge.status, huge.body.code]).toEqual([413, 'payload-too-large']);
    expect((await post('/v1/uploads', { size: 1 }, 'read')).status).toBe(403);
    expect((await get(upload.id, 'stranger')).status).toBe(404);
    expect((await get(upload.id, 'read')).status).toBe(403);
  });

  test('Idempotency-Key', async () => {
    const ask = (body: object) =>
      request(api.url).post('/v1/uploads').set(as('write')).set('idempotency-key', 'up-1').send(body);
    const first = await ask({ size: 5 });
    const again = await ask({ size: 5 });
    expect(again.body).toEqual(first.body);
    expect(again.headers['idempotency-replayed']).toBe('true');
    expect((await ask({ size: 6 })).status).toBe(422);
  });

  test('an upload that expires is forgotten, with what arrived of it', async () => {
    const upload = await begin(6 * MIB);
    await send(upload.parts[0]!);
    const { key, handle } = (await api.db.uploads.get(upload.id))!;
    const sql = new pg.Client({ connectionString: api.databaseUrl });
    await sql.connect();
    await sql.query('UPDATE uploads SET expires_at = now() WHERE id = $1', [upload.id]);
    await sql.end();
    expect((await get(upload.id)).status).toBe(404);
    expect((await post('/v1/datasets', { upload: upload.id })).status).toBe(422);
    await api.db.garbage.add(['whatever/']); // wakes the collector
    await expect.poll(() => api.store.parts.list({ key, handle }).catch(() => 'gone')).toBe('gone');
  });

  test.runIf(kind === 'files')('takes parts by their URLs only', async () => {
    const upload = await begin(10);
    const [part] = upload.parts;
    const url = new URL(part!.url);
    const put = (to: string | URL, body: Buffer, headers: Record<string, string> = {}) =>
      fetch(to, { method: 'PUT', body, headers });
    const ten = Buffer.from('PK\x03\x04567890');
    for (const wrong of ['', '?token=', '?token=x', `?token=${'x'.repeat(32)}`])
      expect((await put(`${url.origin}${url.pathname}${wrong}`, ten)).status, wrong).toBe(404);
    expect((await put(String(url).replace('/parts/1', '/parts/2'), ten)).status).toBe(404);
    expect((await put(String(url).replace('/parts/1', '/parts/0'), ten)).status).toBe(404);
    for (const size of [9, 11]) expect((await put(url, Buffer.alloc(size))).status).toBe(422);
    // Without a length that could be checked beforehand.
    const chunked = httpRequest(url, { method: 'PUT' });
    chunked.end(Buffer.alloc(11));
    const [answer] = (await once(chunked, 'response')) as [{ statusCode: number; resume(): void }];
    answer.resume();
    expect(answer.statusCode).toBe(422);
    expect((await get(upload.id)).body.parts[0].received).toBe(false);
    for (const type of ['application/json', 'text/plain', 'multipart/form-data; boundary=x', 'x'])
      expect((await put(url, ten, { 'content-type': type })).status, type).toBe(type === 'x' ? 415 : 200);
    expect((await post('/v1/datasets', { upload: upload.id })).status).toBe(202);
    const late = await put(url, ten);
    expect([late.status, ((await late.json()) as { code: string }).code]).toEqual([409, 'conflict']);
  });
});
