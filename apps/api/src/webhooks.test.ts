/** Webhooks from registration to a receiver that checks signatures, by the real outbox, queue and HTTP. */
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import request from 'supertest';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { claimedJob, readyDataset, startApi, type ApiStack } from '../../../test/setup/api.js';
import { startDispatcher } from './dispatcher.js';
import { startDeliveries } from './webhooks/deliveries.js';

interface Received {
  url: string;
  headers: IncomingHttpHeaders;
  body: string;
}
let api: ApiStack;
let receiver: Server;
let base: string;
const received: Received[] = [];
/** Status and headers of the next answers; then 204. */
const answers: [number, Record<string, string>?][] = [];
const closers: (() => Promise<unknown>)[] = [];
const log = { info: () => undefined, warn: () => undefined };

beforeAll(async () => {
  receiver = createServer((incoming, response) => {
    void text(incoming).then((body) => {
      received.push({ url: incoming.url!, headers: incoming.headers, body });
      response.writeHead(...(answers.shift() ?? [204])).end();
    });
  }).listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  base = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
  api = await startApi();
  const { db, queue } = api;
  const dispatcher = await startDispatcher({ db, queue, log, every: { outbox: 100 } });
  const deliveries = await startDeliveries({ db, queue, log, allow: ['127.0.0.1'], retries: [0.1, 0.1] });
  closers.push(
    () => dispatcher.close(),
    () => deliveries.close(),
  );
});
afterEach(() => {
  received.length = answers.length = 0;
});
afterAll(async () => {
  for (const close of closers) await close();
  await api?.close();
  receiver.close();
});

const as = (key: keyof ApiStack['keys']) => ({ authorization: `Bearer ${api.keys[key]}` });
const post = (path: string, body?: object, key: keyof ApiStack['keys'] = 'write') =>
  request(api.url).post(path).set(as(key)).send(body);
const get = (path: string, key: keyof ApiStack['keys'] = 'read') => request(api.url).get(path).set(as(key));
async function register(events: string[], path = '/hook', key: keyof ApiStack['keys'] = 'write') {
  const { status, body } = await post('/v1/webhooks', { url: `${base}${path}`, events }, key);
  expect(status, JSON.stringify(body)).toBe(201);
  return body as { id: string; secret: string };
}
const remove = (id: string, key: keyof ApiStack['keys'] = 'write') =>
  request(api.url).delete(`/v1/webhooks/${id}`).set(as(key));
const LIMIT = { timeout: 20_000, interval: 30 };

test('a job and a dataset are told of, signed as Standard Webhooks says, to their tenant alone', async () => {
  const all = await register(['*']);
  const failures = await register(['job.failed'], '/failures');
  const other = await register(['*'], '/other', 'stranger');
  const { lease } = await claimedJob(api);
  await api.db.jobs.fail(lease, { code: 'internal', detail: 'x' }, false);
  await expect.poll(() => received.length, LIMIT).toBe(4);
  const types = (path: string) =>
    received.filter(({ url }) => url === path).map(({ body }) => (JSON.parse(body) as { type: string }).type);
  expect(types('/hook').sort()).toEqual(['dataset.ready', 'job.failed', 'job.started']);
  expect(types('/failures')).toEqual(['job.failed']);
  expect(types('/other')).toEqual([]);

  const { headers, body } = received.find(({ url }) => url === '/failures')!;
  const id = String(headers['webhook-id']);
  const at = String(headers['webhook-timestamp']);
  const key = Buffer.from(failures.secret.slice('whsec_'.length), 'base64');
  expect(key).toHaveLength(32);
  const signature = createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64');
  expect(headers['webhook-signature']).toBe(`v1,${signature}`);
  expect(Math.abs(Number(at) - Date.now() / 1000)).toBeLessThan(30);
  expect(JSON.parse(body)).toMatchObject({
    type: 'job.failed',
    timestamp: expect.stringMatching(/Z$/) as string,
    data: { id: lease.jobId, object: 'job', status: 'failed', error: { code: 'internal' } },
  });

  const { data } = (await get(`/v1/webhooks/${failures.id}/deliveries`)).body;
  expect(data).toMatchObject([
    { id, type: 'job.failed', status: 'succeeded', attempts: 1, response_status: 204, error: null },
  ]);
  // The secret was shown once.
  for (const path of [`/v1/webhooks/${all.id}`, '/v1/webhooks', `/v1/webhooks/${failures.id}/deliveries`])
    expect((await get(path)).text).not.toMatch(/whsec_|secret/);
  expect((await get(`/v1/webhooks/${other.id}`)).status).toBe(404);
  expect((await get(`/v1/webhooks/${other.id}/deliveries`)).status).toBe(404);
  expect((await post(`/v1/webhooks/${other.id}/ping`)).status).toBe(404);
  expect((await remove(other.id)).status).toBe(404);
  await Promise.all([remove(all.id), remove(failures.id), remove(other.id, 'stranger')]);
  await readyDataset(api);
  expect((await get('/v1/webhooks')).body.data).toEqual([]);
});

test('a delivery that fails is repeated with the same id, until there are no more attempts', async () => {
  const { id } = await register(['job.paused']);
  answers.push([500], [503]);
  expect((await post(`/v1/webhooks/${id}/ping`)).status).toBe(202);
  await expect.poll(() => received.length, LIMIT).toBe(3);
  expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
  const deliveries = async (status = '') =>
    (await get(`/v1/webhooks/${id}/deliveries${status}`)).body.data as Record<string, unknown>[];
  await expect
    .poll(async () => (await deliveries())[0], LIMIT)
    .toMatchObject({ type: 'webhook.ping', status: 'succeeded', attempts: 3, response_status: 204 });

  // Redirects are answers like any other that is no success: nobody goes there.
  answers.push([302, { location: `${base}/elsewhere` }], [307, { location: `${base}/elsewhere` }], [500]);
  await post(`/v1/webhooks/${id}/ping`);
  await expect.poll(async () => (await deliveries())[0]!['status'], LIMIT).toBe('failed');
  expect((await deliveries('?status=failed'))[0]).toMatchObject({
    attempts: 3,
    response_status: 500,
    error: 'answered 500',
    next_attempt_at: null,
    delivered_at: null,
  });
  expect(received.map(({ url }) => url)).not.toContain('/elsewhere');
  await remove(id);
});

test('410 Gone ends it; a disabled one is told nothing', async () => {
  const { id } = await register(['*']);
  answers.push([410]);
  await post(`/v1/webhooks/${id}/ping`);
  await expect.poll(async () => (await get(`/v1/webhooks/${id}`)).body.enabled as boolean, LIMIT).toBe(false);
  await readyDataset(api);
  const { data } = (await get(`/v1/webhooks/${id}/deliveries`)).body;
  expect(data).toMatchObject([{ status: 'failed', response_status: 410 }]);
  const change = (body: object) => request(api.url).patch(`/v1/webhooks/${id}`).set(as('write')).send(body);
  expect((await change({ enabled: true, events: ['dataset.ready'] })).body).toMatchObject({
    enabled: true,
    events: ['dataset.ready'],
  });
  received.length = 0;
  await readyDataset(api);
  await expect.poll(() => received.length, LIMIT).toBe(1);
  await remove(id);
});

test('addresses inside are refused with a reason, when registered and when changed', async () => {
  for (const url of ['http://127.0.0.2/', 'https://169.254.169.254/', 'http://example.com/', 'nonsense']) {
    const { status, body } = await post('/v1/webhooks', { url, events: ['*'] });
    expect([url, status, body.errors[0].pointer, body.errors[0].code]).toEqual([
      url,
      422,
      '/url',
      'url-not-allowed',
    ]);
  }
  const { id } = await register(['*']);
  const change = await request(api.url)
    .patch(`/v1/webhooks/${id}`)
    .set(as('write'))
    .send({ url: 'https://[::1]/' });
  expect(change.status).toBe(422);
  const wrong = await post('/v1/webhooks', { url: `${base}/`, events: ['job.exploded'], secret: 'mine' });
  expect(wrong.body.errors.map((e: { pointer: string }) => e.pointer).sort()).toEqual([
    '/events/0',
    '/secret',
  ]);
  await remove(id);
});

test('a key of scope read makes none', async () => {
  expect((await post('/v1/webhooks', { url: base, events: ['*'] }, 'read')).status).toBe(403);
});
