import { createHash } from 'node:crypto';
import request from 'supertest';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '@ntaa/contracts';
import { meanColourOnnx } from '../../../test/setup/onnx.js';
import { claimedJob, startApi, succeedWithModel, type ApiStack } from '../../../test/setup/api.js';

/** 8x8 PNG files of one colour. */
const PNG = {
  red: 'iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAACXBIWXMAAAPoAAAD6AG1e1JrAAAAEUlEQVQImWP4xcWFFTEMLQkAnE5Dgd0Ew8AAAAAASUVORK5CYII=',
  green:
    'iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAACXBIWXMAAAPoAAAD6AG1e1JrAAAAEUlEQVQImWPg+sWFFTEMLQkAYE5DgWRWcJ8AAAAASUVORK5CYII=',
  blue: 'iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAACXBIWXMAAAPoAAAD6AG1e1JrAAAAEUlEQVQImWPg4vqFFTEMLQkAJE5DgfiZYzcAAAAASUVORK5CYII=',
};
const png = (colour: keyof typeof PNG) => Buffer.from(PNG[colour], 'base64');

const BUNDLE = Buffer.from(Array.from({ length: 100_000 }, (_, i) => i % 251));
const REPORT = Buffer.from('<!doctype html><title>ünï</title>');
const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
let api: ApiStack;
let id: string;
beforeAll(async () => {
  api = await startApi();
  const put = async (filename: string, bytes: Buffer, contentType: string) => {
    const key = `models/test/${filename}`;
    return { key, ...(await api.store.put(key, bytes)), filename, contentType };
  };
  id = await succeedWithModel(api, await claimedJob(api), {
    bundle: await put('bundle.zip', BUNDLE, 'application/zip'),
    onnx: await put('model.onnx', meanColourOnnx(), 'application/octet-stream'),
    report: await put('report.html', REPORT, 'text/html; charset=utf-8'),
  });
});
afterAll(() => api?.close());

const get = (path: string, headers: Record<string, string> = {}, key: keyof ApiStack['keys'] = 'read') =>
  request(api.url)
    .get(path)
    .set({ authorization: `Bearer ${api.keys[key]}`, ...headers })
    .buffer(true);

test('list and get, own tenant only', async () => {
  const { data } = (await get('/v1/models')).body;
  expect(data).toMatchObject([{ id, object: 'model', task: 'classification', metrics: { top1: 0.9 } }]);
  expect((await get(`/v1/models/${id}`)).body).toEqual(data[0]);
  expect((await get('/v1/models', {}, 'stranger')).body.data).toEqual([]);
  for (const path of ['', '/download'])
    expect((await get(`/v1/models/${id}${path}`, {}, 'stranger')).status).toBe(404);
  expect((await get(`/v1/models/${newId('mdl')}`)).status).toBe(404);
});

const download = (headers: Record<string, string> = {}) =>
  get(`/v1/models/${id}/download`, headers).parse((res, done) => {
    const chunks: Buffer[] = [];
    (res as unknown as NodeJS.ReadableStream)
      .on('data', (chunk: Buffer) => chunks.push(chunk))
      .on('end', () => done(null, Buffer.concat(chunks)));
  });

test('download: whole, in part, on condition', async () => {
  const whole = await download();
  const etag = `"${hash(BUNDLE)}"`;
  expect(whole.status).toBe(200);
  expect(whole.headers).toMatchObject({
    'content-length': String(BUNDLE.length),
    etag,
    'accept-ranges': 'bytes',
    'content-disposition': 'attachment; filename="bundle.zip"',
    'content-type': 'application/zip',
  });
  expect(BUNDLE.equals(whole.body as Buffer)).toBe(true);
  const part = await download({ range: 'bytes=100-299' });
  expect(part.status).toBe(206);
  expect(part.headers).toMatchObject({
    'content-range': `bytes 100-299/${BUNDLE.length}`,
    'content-length': '200',
  });
  expect(BUNDLE.subarray(100, 300).equals(part.body as Buffer)).toBe(true);
  expect(BUNDLE.subarray(-7).equals((await download({ range: 'bytes=-7' })).body as Buffer)).toBe(true);
  expect((await download({ range: 'bytes=0-1', 'if-range': '"old"' })).status).toBe(200);
  const same = await download({ 'if-none-match': etag });
  expect({ status: same.status, etag: same.headers['etag'] }).toEqual({ status: 304, etag });
  const outside = await get(`/v1/models/${id}/download`, { range: 'bytes=100000-' });
  expect(outside.status).toBe(416);
  expect(outside.headers['content-range']).toBe(`bytes */${BUNDLE.length}`);
  expect(outside.headers['content-type']).toMatch(/problem\+json/);
  const head = await request(api.url)
    .head(`/v1/models/${id}/download`)
    .set('authorization', `Bearer ${api.keys.read}`);
  expect(head.headers).toMatchObject({ 'content-length': String(BUNDLE.length), etag });
  expect((await get(`/v1/models/${id}/download?format=tfjs`)).status).toBe(404);
  expect((await get(`/v1/models/${id}/download?format=exe`)).status).toBe(422);
  expect((await get(`/v1/models/${id}/download?format=onnx`)).status).toBe(200);
});

test('report: a page that may do nothing but show itself, own tenant only', async () => {
  const path = `/v1/models/${id}/report`;
  const { status, text, headers } = await get(path);
  expect(status).toBe(200);
  expect(text).toBe(REPORT.toString());
  expect(headers).toMatchObject({
    'content-type': 'text/html; charset=utf-8',
    'content-length': String(REPORT.length),
    'x-content-type-options': 'nosniff',
    etag: `"${hash(REPORT)}"`,
  });
  const policy = headers['content-security-policy']!;
  expect(policy).toMatch(/^default-src 'none';.*; sandbox$/);
  expect(policy).not.toContain('script-src');
  expect((await get(path, { 'if-none-match': headers['etag']! })).status).toBe(304);
  expect((await get(path, {}, 'stranger')).status).toBe(404);
  expect((await request(api.url).get(path)).status).toBe(401);
  const bare = await succeedWithModel(api, await claimedJob(api), {});
  const none = await get(`/v1/models/${bare}/report`);
  expect({ status: none.status, detail: none.body.detail }).toEqual({
    status: 404,
    detail: `${bare} was made without a report.`,
  });
  expect((await get('/openapi.json')).body.paths['/v1/models/{id}/report'].get).toMatchObject({
    responses: { 200: { content: { 'text/html': {} } } },
  });
});

const predict = (model = id) =>
  request(api.url).post(`/v1/models/${model}/predict`).set('authorization', `Bearer ${api.keys.read}`);

test('predict: one answer an image, in order', async () => {
  const form = predict();
  for (const colour of ['blue', 'red', 'green'] as const) form.attach('file', png(colour), `${colour}.png`);
  const { status, body } = await form;
  expect(status, JSON.stringify(body)).toBe(200);
  expect(body.data.map((p: { filename: string; label: string }) => [p.filename, p.label])).toEqual([
    ['blue.png', 'blue'],
    ['red.png', 'red'],
    ['green.png', 'green'],
  ]);
  const [{ probabilities, confidence }] = body.data;
  expect(probabilities.map((p: { label: string }) => p.label)).toEqual(['red', 'green', 'blue']);
  const e = [10, 10, 250].map((x) => Math.exp(x / 255));
  expect(confidence).toBeCloseTo(e[2]! / (e[0]! + e[1]! + e[2]!), 5);
});

test('predict refuses what is not an image, too many, too large, none', async () => {
  const bad = await predict()
    .attach('file', png('red'), 'ok.png')
    .attach('file', Buffer.from('text'), 'notes.txt');
  expect({ status: bad.status, code: bad.body.code }).toEqual({ status: 422, code: 'image-unreadable' });
  expect(bad.body.detail).toContain('notes.txt');
  const many = predict();
  for (let i = 0; i < 65; i++) many.attach('file', png('red'), `${i}.png`);
  expect((await many).status).toBe(422);
  expect((await predict().attach('file', Buffer.alloc(21e6), 'big.png')).status).toBe(413);
  expect((await predict().field('a', 'b')).status).toBe(422);
  expect((await predict().send({})).status).toBe(415);
  expect((await predict(newId('mdl')).attach('file', png('red'), 'a.png')).status).toBe(404);
});
