import { once } from 'node:events';
import { get as httpGet, type IncomingMessage } from 'node:http';
import request from 'supertest';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '@ntaa/contracts';
import { claimedJob, startApi, type ApiStack } from '../../../test/setup/api.js';

let api: ApiStack;
beforeAll(async () => {
  api = await startApi({ limits: { heartbeatMs: 200 } });
});
afterAll(() => api?.close());

const auth = () => `Bearer ${api.keys.read}`;
const page = (path: string) => request(api.url).get(path).set('authorization', auth());

/** An open event stream whose text can be waited for. */
async function open(job: string, headers: Record<string, string> = {}, base = api.url, key = auth()) {
  const outgoing = httpGet(`${base}/v1/jobs/${job}/events`, {
    headers: { authorization: key, accept: 'text/event-stream', ...headers },
  });
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  let text = '';
  response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  const ended = once(response, 'close').then(() => text);
  return { response, ended, text: () => text, close: () => outgoing.destroy() };
}
const seqs = (text: string) => [...text.matchAll(/^id: (\d+)$/gm)].map((m) => Number(m[1]));

test('pages of events', async () => {
  const { lease } = await claimedJob(api);
  await api.db.jobs.appendEvents(
    lease,
    Array.from({ length: 5 }, (_, i) => ({ type: 'log' as const, data: { line: i } })),
  );
  const path = `/v1/jobs/${lease.jobId}/events`;
  const all = (await page(path)).body;
  expect(all.data.map((e: { seq: number }) => e.seq)).toEqual(all.data.map((_: unknown, i: number) => i + 1));
  expect(all.data.at(-1)).toMatchObject({ type: 'log', data: { line: 4 } });
  const part = (await page(`${path}?after=2&limit=2`)).body;
  expect(part.data.map((e: { seq: number }) => e.seq)).toEqual([3, 4]);
  expect(part).toMatchObject({ has_more: true, next_cursor: '4' });
  expect((await page(`/v1/jobs/${newId('job')}/events`)).status).toBe(404);
  expect((await page(`${path}?after=-1`)).status).toBe(422);
});

test('a stream replays, goes on live, beats, and ends after done', async () => {
  const { lease } = await claimedJob(api);
  const stream = await open(lease.jobId);
  expect(stream.response.statusCode).toBe(200);
  expect(stream.response.headers['content-type']).toMatch(/^text\/event-stream/);
  await expect.poll(() => seqs(stream.text()).length).toBeGreaterThan(0);
  await expect.poll(stream.text).toContain(': heartbeat\n\n');
  await api.db.jobs.appendEvents(lease, [{ type: 'warning', data: { text: 'line\nbreak' } }]);
  await expect.poll(stream.text).toContain('event: warning');
  await api.db.jobs.fail(lease, { code: 'internal', detail: 'x' }, false);
  const text = await stream.ended;
  const all = (await page(`/v1/jobs/${lease.jobId}/events?limit=1000`)).body.data as {
    seq: number;
    type: string;
  }[];
  expect(seqs(text)).toEqual(all.map((e) => e.seq));
  expect(all.at(-1)?.type).toBe('done');
  const data = [...text.matchAll(/^data: (.*)$/gm)].map((m) => JSON.parse(m[1]!) as unknown);
  expect(data).toEqual(all);

  const resumed = await open(lease.jobId, { 'last-event-id': '2' });
  expect(seqs(await resumed.ended)).toEqual(all.map((e) => e.seq).filter((seq) => seq > 2));
  const over = await open(lease.jobId, { 'last-event-id': String(all.length) });
  expect(over.response.statusCode).toBe(204);
  const wrong = await open(lease.jobId, { 'last-event-id': 'x' });
  expect(wrong.response.statusCode).toBe(422);
  wrong.close();
  const foreign = await open(lease.jobId, {}, api.url, `Bearer ${api.keys.stranger}`);
  expect(foreign.response.statusCode).toBe(404);
  foreign.close();
});

test('a log longer than one page arrives whole and in order', async () => {
  const { lease } = await claimedJob(api);
  const events = Array.from({ length: 500 }, (_, i) => ({
    type: 'log' as const,
    data: { i, text: 'x'.repeat(500) },
  }));
  await api.db.jobs.appendEvents(lease, events);
  await api.db.jobs.fail(lease, { code: 'internal', detail: 'x' }, false);
  const found = seqs(await (await open(lease.jobId)).ended);
  expect(found).toEqual(found.map((_, i) => i + 1));
  expect(found.length).toBeGreaterThan(500);
});

test('closing the server ends open streams', async () => {
  const own = await startApi();
  const { lease } = await claimedJob(own);
  const stream = await open(lease.jobId, {}, own.url, `Bearer ${own.keys.read}`);
  await expect.poll(() => seqs(stream.text()).length).toBeGreaterThan(0);
  const started = Date.now();
  await own.close();
  await stream.ended;
  expect(Date.now() - started).toBeLessThan(8000);
});
