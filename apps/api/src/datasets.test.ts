import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Readable } from 'node:stream';
import request from 'supertest';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { adaptRequest, readyDataset, startApi, type ApiStack } from '../../../test/setup/api.js';

const ZIP = Buffer.concat([Buffer.from('PK\x03\x04'), Buffer.alloc(2000, 7)]);
const MAX = 256 * 2 ** 20;
let api: ApiStack;
beforeAll(async () => {
  api = await startApi({ maxUploadBytes: MAX });
});
afterAll(() => api?.close());

const as = (key: keyof ApiStack['keys']) => `Bearer ${api.keys[key]}`;
const post = () => request(api.url).post('/v1/datasets').set('authorization', as('write'));
const get = (path: string, key: keyof ApiStack['keys'] = 'read') =>
  request(api.url).get(path).set('authorization', as(key));
const stored = async () => {
  const keys = [];
  for await (const { key } of api.store.list('datasets/')) keys.push(key);
  return keys;
};

test('an upload is stored, hashed and waits for validation; fields may come before or after the file', async () => {
  for (const fieldsFirst of [true, false]) {
    const form = post();
    if (fieldsFirst) form.field('name', 'flowers').field('format', 'image-folder');
    form.attach('file', ZIP, 'x.zip');
    if (!fieldsFirst) form.field('name', 'flowers').field('format', 'image-folder');
    const { status, body, headers } = await form;
    expect({ status, name: body.name, object: body.object }).toEqual({
      status: 202,
      name: 'flowers',
      object: 'dataset',
    });
    expect(body.status).toBe('validating');
    expect(headers['location']).toBe(`/v1/datasets/${body.id}`);
    const { createHash } = await import('node:crypto');
    expect(body.sha256).toBe(createHash('sha256').update(ZIP).digest('hex'));
    expect(await stored()).toContain(`datasets/${body.id}/upload`);
    expect((await get(`/v1/datasets/${body.id}`)).body).toEqual(body);
    expect((await get(`/v1/datasets/${body.id}/report`)).status).toBe(409);
  }
});

test('the name defaults to that of the file', async () => {
  const { body } = await post().attach('file', ZIP, 'my photos.zip');
  expect(body.name).toBe('my photos.zip');
});

test('wrong forms are refused with every problem, and leave nothing behind', async () => {
  const before = await stored();
  const noFile = await post().field('name', 'x');
  expect(noFile.status).toBe(422);
  expect(noFile.body.errors).toMatchObject([{ pointer: '/file', code: 'required' }]);
  const many = await post()
    .attach('file', ZIP, 'x.zip')
    .field('format', 'nope')
    .field('name', 'n'.repeat(300));
  expect(many.status).toBe(422);
  expect(many.body.errors.map((e: { pointer: string }) => e.pointer)).toEqual(['/name', '/format']);
  const unknown = await post().attach('file', ZIP, 'x.zip').attach('other', ZIP, 'y.zip').field('extra', '1');
  expect(unknown.status).toBe(422);
  expect(unknown.body.errors.map((e: { pointer: string }) => e.pointer)).toEqual(['/other', '/extra']);
  expect((await post().attach('file', ZIP, 'x.zip').attach('file', ZIP, 'y.zip')).status).toBe(422);
  expect((await post().attach('file', Buffer.from('no archive'), 'x.zip')).status).toBe(415);
  expect((await post().attach('file', Buffer.alloc(0), 'x.zip')).status).toBe(415);
  expect((await post().set('content-type', 'text/plain').send('x')).status).toBe(415);
  expect((await post().send({ name: 'x' })).body.errors).toMatchObject([{ pointer: '/upload' }]);
  const broken = await post()
    .set('content-type', 'multipart/form-data; boundary=b')
    .send('--b\r\nContent-Dis');
  expect({ status: broken.status, code: broken.body.code }).toEqual({
    status: 400,
    code: 'malformed-request',
  });
  expect((await post().set('content-type', 'multipart/form-data').send('x')).status).toBe(400);
  expect((await post().field('__proto__', 'x').attach('file', ZIP, 'x.zip')).status).toBe(400);
  expect(await stored()).toEqual(before);
});

test('lists page by page, filtered by status, and only the own tenant sees a dataset', async () => {
  const { body } = await post().attach('file', ZIP, 'x.zip');
  const ids = [];
  for (let after = ''; ;) {
    const page = (await get(`/v1/datasets?limit=2${after}`)).body;
    expect(page.data.length).toBeLessThanOrEqual(2);
    ids.push(...page.data.map((d: { id: string }) => d.id));
    if (!page.has_more) break;
    after = `&after=${page.next_cursor}`;
  }
  expect(ids[0]).toBe(body.id);
  expect(new Set(ids).size).toBe(ids.length);
  expect((await get('/v1/datasets?status=ready')).body.data).toEqual([]);
  expect((await get('/v1/datasets', 'stranger')).body.data).toEqual([]);
  for (const path of ['', '/report'])
    expect((await get(`/v1/datasets/${body.id}${path}`, 'stranger')).status).toBe(404);
  expect(
    (await request(api.url).delete(`/v1/datasets/${body.id}`).set('authorization', as('stranger'))).status,
  ).toBe(404);
  for (const query of ['limit=0', 'limit=101', 'limit=x', 'status=nope', 'nope=1', 'after=%00'])
    expect((await get(`/v1/datasets?${query}`)).status, query).toBe(422);
});

test('delete: 409 while in use, 204 with its objects, 404 then', async () => {
  const remove = (id: string) =>
    request(api.url).delete(`/v1/datasets/${id}`).set('authorization', as('write'));
  const validating = (await post().attach('file', ZIP, 'x.zip')).body.id;
  expect((await remove(validating)).status).toBe(409);
  const id = await readyDataset(api);
  await api.store.put(`datasets/${id}/upload`, ZIP);
  const job = await api.db.jobs.create('default', adaptRequest(id));
  expect((await remove(id)).status).toBe(409);
  await api.db.jobs.action('default', (job as { id: string }).id, 'cancel');
  const done = await remove(id);
  expect({ status: done.status, text: done.text }).toEqual({ status: 204, text: '' });
  expect((await stored()).filter((key) => key.includes(id))).toEqual([]);
  expect((await remove(id)).status).toBe(404);
  expect((await get(`/v1/datasets/${id}`)).status).toBe(404);
});

/** Sends a form whose file has `bytes` bytes, from one chunk used over and over. */
function upload(bytes: number, headers: Record<string, string> = {}) {
  const chunk = Buffer.alloc(64 * 1024, 1);
  const head = '--b\r\nContent-Disposition: form-data; name="file"; filename="x.zip"\r\n\r\nPK\x03\x04';
  const outgoing = httpRequest(`${api.url}/v1/datasets`, {
    method: 'POST',
    headers: { authorization: as('write'), 'content-type': 'multipart/form-data; boundary=b', ...headers },
  });
  const answer = once(outgoing, 'response').then(async ([response]) => {
    const text: Buffer[] = [];
    for await (const part of response as Readable) text.push(part as Buffer);
    return {
      status: (response as { statusCode: number }).statusCode,
      body: JSON.parse(Buffer.concat(text).toString()),
    };
  });
  answer.catch(() => undefined);
  const sent = (async () => {
    outgoing.write(head);
    for (let left = bytes - 4; left > 0 && !outgoing.destroyed; left -= chunk.length)
      if (!outgoing.write(chunk.subarray(0, left)))
        await Promise.race([once(outgoing, 'drain'), once(outgoing, 'close')]);
  })();
  sent.catch(() => undefined);
  return { outgoing, answer, sent, end: () => outgoing.end('\r\n--b--\r\n') };
}

test('200 MB stream through without growing the process', async () => {
  const size = 200 * 2 ** 20;
  const before = process.memoryUsage().rss;
  let most = 0;
  const watch = setInterval(() => (most = Math.max(most, process.memoryUsage().rss)), 20);
  const { answer, sent, end } = upload(size);
  await sent;
  end();
  const { status, body } = await answer;
  clearInterval(watch);
  expect(status).toBe(202);
  expect(await api.store.head(`datasets/${body.id}/upload`)).toEqual({ size });
  console.log(`RSS grew by ${Math.round((most - before) / 2 ** 20)} MB`);
  expect(most - before).toBeLessThan(100 * 2 ** 20);
});

test('too large: 413, stated or not, and nothing is kept', async () => {
  const before = await stored();
  const stated = upload(1000, { 'content-length': String(MAX * 2) });
  expect((await stated.answer).status).toBe(413);
  stated.outgoing.destroy();
  const chunked = upload(MAX + 1e6);
  const { status, body } = await chunked.answer;
  expect({ status, code: body.code }).toEqual({ status: 413, code: 'payload-too-large' });
  chunked.outgoing.destroy();
  expect(await stored()).toEqual(before);
});

test('an aborted upload leaves nothing behind', async () => {
  const before = await stored();
  const count = (await get('/v1/datasets?limit=100')).body.data.length;
  const aborted = new Promise<void>((resolve) => {
    api.app.server.once('request', (incoming) => incoming.once('close', () => resolve()));
  });
  const { outgoing, sent } = upload(10 * 2 ** 20);
  await sent;
  outgoing.destroy();
  await aborted;
  await expect.poll(stored).toEqual(before);
  expect((await get('/v1/datasets?limit=100')).body.data.length).toBe(count);
});

test('Idempotency-Key: the same upload again is answered, not stored; changed content is refused', async () => {
  const send = (bytes: Buffer, name = 'n') =>
    post().set('idempotency-key', 'upload-1').field('name', name).attach('file', bytes, 'x.zip');
  const first = await send(ZIP);
  expect(first.status).toBe(202);
  const before = await stored();
  const again = await send(ZIP);
  expect(again.status).toBe(202);
  expect(again.headers['idempotency-replayed']).toBe('true');
  expect(again.headers['location']).toBe(first.headers['location']);
  expect(again.body).toEqual(first.body);
  const changed = await send(Buffer.concat([ZIP, ZIP]));
  expect({ status: changed.status, code: changed.body.code }).toEqual({
    status: 422,
    code: 'idempotency-mismatch',
  });
  expect((await send(ZIP, 'other')).status).toBe(422);
  expect(await stored()).toEqual(before);
});

test('a stalled upload is cut by the idle timeout', async () => {
  const impatient = await startApi({ limits: { idleMs: 500 } });
  try {
    const outgoing = httpRequest(`${impatient.url}/v1/datasets`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${impatient.keys.write}`,
        'content-type': 'multipart/form-data; boundary=b',
      },
    });
    outgoing.write('--b\r\nContent-Disposition: form-data; name="file"; filename="x.zip"\r\n\r\nPK\x03\x04');
    const [error] = (await Promise.race([
      once(outgoing, 'error').catch((e: unknown) => [e]),
      sleep(20_000, [null]),
    ])) as [unknown];
    expect((error as { code?: string } | null)?.code).toBe('ECONNRESET');
    const left = [];
    for await (const { key } of impatient.store.list('')) left.push(key);
    expect(left).toEqual([]);
  } finally {
    await impatient.close();
  }
});
