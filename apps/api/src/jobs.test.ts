import request from 'supertest';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '@ntaa/contracts';
import {
  adaptRequest,
  builtinSupernet,
  claimedJob,
  readyDataset,
  startApi,
  type ApiStack,
} from '../../../test/setup/api.js';

let api: ApiStack;
let dataset: string;
beforeAll(async () => {
  api = await startApi();
  await builtinSupernet(api);
  dataset = await readyDataset(api);
});
afterAll(() => api?.close());

type KeyName = keyof ApiStack['keys'];
const as = (key: KeyName) => `Bearer ${api.keys[key]}`;
const post = (path: string, body?: object | string, key: KeyName = 'write') =>
  request(api.url)
    .post(path)
    .set('authorization', as(key))
    .set('content-type', 'application/json')
    .send(body);
const get = (path: string, key: KeyName = 'read') => request(api.url).get(path).set('authorization', as(key));
const errors = async (body: object, status = 422) => {
  const answer = await post('/v1/jobs', body);
  expect(answer.status, JSON.stringify(answer.body)).toBe(status);
  expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
  return answer.body.errors as { pointer: string; code: string; detail: string }[];
};
const adapt = (more: object = {}) => ({ kind: 'adapt', task: 'classification', dataset, ...more });

test('a job is created, listed, found, and put on its way to the queue', async () => {
  const { status, body, headers } = await post('/v1/jobs', adapt({ metadata: { run: '7' }, seed: 3 }));
  expect(status).toBe(202);
  expect(headers['location']).toBe(`/v1/jobs/${body.id}`);
  expect(body).toMatchObject({
    object: 'job',
    kind: 'adapt',
    task: 'classification',
    status: 'queued',
    metadata: { run: '7' },
  });
  expect((await get(`/v1/jobs/${body.id}`)).body).toMatchObject({
    id: body.id,
    request: { seed: 3, dataset },
  });
  const sent: string[] = [];
  await api.db.outbox.dispatch(100, async (entry) => void sent.push(JSON.stringify(entry.payload)));
  expect(sent).toContain(JSON.stringify({ job_id: body.id }));
  const list = await get('/v1/jobs?status=queued&kind=adapt&limit=100');
  expect(list.body.data.map((j: { id: string }) => j.id)).toContain(body.id);
  expect((await get('/v1/jobs?status=failed')).body.data).toEqual([]);
  expect((await get('/v1/jobs?kind=pretrain')).body.data).toEqual([]);
  for (const path of ['', '/events', '/candidates'])
    expect((await get(`/v1/jobs/${body.id}${path}`, 'stranger')).status).toBe(404);
  expect((await post(`/v1/jobs/${body.id}/cancel`, undefined, 'stranger')).status).toBe(404);
  expect((await get(`/v1/jobs/${newId('job')}`)).status).toBe(404);
  expect((await get('/v1/jobs/nonsense%00')).status).toBe(404);
});

test('a pretrain job is created', async () => {
  const { status, body } = await post('/v1/jobs', { kind: 'pretrain', dataset, name: 'mine' });
  expect(status, JSON.stringify(body)).toBe(202);
  expect(body).toMatchObject({ kind: 'pretrain', task: null });
  expect((await post('/v1/jobs', { kind: 'pretrain', dataset, name: 'tiny' })).status).toBe(409);
});

test('every problem of a body is listed, at its place, with a remedy', async () => {
  expect(await errors({})).toMatchObject([
    { pointer: '/kind', detail: 'must be one of "adapt", "pretrain"' },
  ]);
  expect(await errors({ kind: 'train' })).toMatchObject([{ pointer: '/kind' }]);
  const many = await errors({
    ...{
      kind: 'adapt',
      task: 'classification',
      dataset: 'x',
      nope: 1,
      seed: -1,
      objective: 'speed',
      baseline: 'yes',
    },
    ...{ constraints: { max_macs: 0, max_wrong: 3 }, budget: { max_seconds: 'x' } },
  });
  expect(many.map((e) => e.pointer).sort()).toEqual(
    [
      '/baseline',
      '/budget/max_seconds',
      '/constraints/max_macs',
      '/constraints/max_wrong',
      '/dataset',
      '/nope',
      '/objective',
      '/seed',
    ].sort(),
  );
  expect(many.find((e) => e.pointer === '/objective')?.detail).toBe(
    'must be one of "macs", "params", "latency"',
  );
  expect((await errors({ kind: 'adapt' })).map((e) => e.pointer).sort()).toEqual(['/dataset', '/task']);
  expect(await errors(adapt({ metadata: { a: 'x\u0000y' } }))).toMatchObject([
    { pointer: '/metadata/a', code: 'invalid-text' },
  ]);
});

test('names, numbers and nulls that JSON can spell but a job cannot have', async () => {
  const one = async (more: object | string) => {
    const body = typeof more === 'string' ? more : JSON.stringify(adapt(more));
    const { status, body: problem } = await post('/v1/jobs', body);
    expect(status, body).toBe(422);
    return problem.errors.map((e: { pointer: string; detail: string }) => [e.pointer, e.detail]);
  };
  expect(await one({ metadata: { '': 'x' } })).toEqual([
    ['/metadata/', expect.stringMatching(/name .*fewer/)],
  ]);
  expect(await one({ metadata: { ['k'.repeat(65)]: 'x' } })).toMatchObject([[expect.stringMatching(/k{65}/), expect.stringMatching(/name .*more/)]]); // prettier-ignore
  expect(await one({ metadata: { 'a\nb': { deep: 1 } } })).toEqual([['/metadata/a\nb', 'must be string']]);
  const huge = JSON.stringify(adapt({ constraints: { max_macs: 1 } })).replace(':1}', ':1e999}');
  expect(await one(huge)).toEqual([['/constraints/max_macs', 'is too large a number']]);
  expect(await one(huge.replace('1e999', '-1e999'))).toMatchObject([
    ['/constraints/max_macs', expect.anything()],
  ]);
  expect(await one({ task: null })).toEqual([
    ['/task', expect.stringMatching(/^must be one of "classification", /)],
  ]);
  expect(await one({ supernet: '' })).toMatchObject([['/supernet', expect.stringMatching(/1 characters/)]]);
  expect(await one({ supernet: 'no such' })).toEqual([['/supernet', 'there is no supernet "no such"; GET /v1/supernets lists them']]); // prettier-ignore
});

test('a body that is not JSON, or does not say so, is 415', async () => {
  const send = async (type: string | null, text: string) => {
    const headers = { authorization: as('write'), ...(type !== null && { 'content-type': type }) };
    // Bytes, of which fetch says no type by itself.
    const answer = await fetch(`${api.url}/v1/jobs`, { method: 'POST', headers, body: Buffer.from(text) });
    return { status: answer.status, body: (await answer.json()) as { code: string } };
  };
  const body = JSON.stringify(adapt());
  for (const type of [
    'text/plain',
    'text/plain; charset=utf-8',
    'application/octet-stream',
    'multipart/form-data; boundary=x',
    'x',
    null,
  ]) {
    const { status, body: problem } = await send(type, body);
    expect([status, problem.code], String(type)).toEqual([415, 'unsupported-media-type']);
  }
  expect((await send('application/json; charset=utf-8', body)).status).toBe(202);
});

test('a cursor is of the list that it is given to', async () => {
  const { lease } = await claimedJob(api);
  const foreign = await claimedJob(api, 'other');
  const candidate = {
    ...{ macs: 1, params: 1, latency_ms: null, score: 0, metrics: { top1: 0, loss: 1 }, pareto: true },
    ...{ selected: false, genotype: { space: 'tiny', resolution: 24, stages: [[{ kernel: 3, expand: 2 }]] } },
  };
  await api.db.jobs.putCandidates(foreign.lease, [candidate]);
  const order = (await api.db.jobs.candidates('other', foreign.lease.jobId))!.data.length;
  for (const [path, after] of [
    ...['jobs', 'datasets', 'models', 'supernets'].map((list) => [`/v1/${list}`, 'nonsense']),
    ...['jobs', 'datasets', 'models', 'supernets'].map((list) => [`/v1/${list}`, '']),
    ['/v1/jobs', newId('job')],
    ['/v1/jobs', foreign.lease.jobId],
    ['/v1/jobs', dataset],
    ['/v1/datasets', lease.jobId],
    [`/v1/jobs/${lease.jobId}/candidates`, String(order)],
    [`/v1/jobs/${lease.jobId}/candidates`, '-1'],
    [`/v1/jobs/${lease.jobId}/events`, '1000'],
  ] as const) {
    const answer = await get(`${path}?after=${encodeURIComponent(after!)}`);
    expect([answer.status, answer.body.code], `${path} ${after}`).toEqual([422, 'validation-failed']);
    expect(answer.body.errors).toMatchObject([{ pointer: 'after', code: 'unknown-cursor' }]);
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
  }
  expect((await get(`/v1/jobs?after=${lease.jobId}`)).status).toBe(200);
  const stream = await get(`/v1/jobs/${lease.jobId}/events`).set({ accept: 'text/event-stream', 'last-event-id': '1000' }); // prettier-ignore
  expect(stream.status).toBe(422);
});

test('what the contract plans and this version lacks is said to be so', async () => {
  expect((await errors({ kind: 'pretrain', dataset, search_space: 'ofa-mbv3' }))[0]?.detail).toMatch(
    /not implemented yet/,
  );
});

test('datasets and supernets that cannot be used', async () => {
  const missing = newId('ds');
  const both = await errors({ ...adapt({ supernet: 'nope' }), dataset: missing });
  expect(both.map((e) => e.pointer)).toEqual(['/dataset', '/supernet']);
  const foreign = await readyDataset(api, 'other');
  expect(await errors({ ...adapt(), dataset: foreign })).toMatchObject([{ code: 'unknown-dataset' }]);
  const id = newId('ds');
  const upload = { uploadKey: `datasets/${id}/upload`, sha256: 'aa', bytes: 1 };
  await api.db.datasets.create({ id, name: 'x', format: null, tenant: 'default', ...upload });
  expect(await errors({ ...adapt(), dataset: id }, 409)).toMatchObject([
    { pointer: '/dataset', detail: 'is validating' },
  ]);
  const error = { code: 'no-images', detail: 'The archive holds no images.', where: null };
  await api.db.datasets.markInvalid(id, { error, skipped: [], warnings: [], sizes: null });
  expect(await errors({ ...adapt(), dataset: id })).toMatchObject([
    { code: 'dataset-invalid', detail: expect.stringContaining('no images') },
  ]);
});

test('unreachable constraints name the nearest achievable value, which then is accepted', async () => {
  const constraints = { max_macs: 10, max_params: 10, max_size_bytes: 10 };
  const answer = await post('/v1/jobs?dry_run=true', adapt({ constraints }));
  expect({ status: answer.status, code: answer.body.code }).toEqual({
    status: 422,
    code: 'constraint-infeasible',
  });
  const nearest = Object.fromEntries(
    answer.body.errors.map((e: { pointer: string; detail: string }) => [
      e.pointer.split('/')[2],
      Number(/\d+/.exec(e.detail)![0]),
    ]),
  );
  expect(Object.keys(nearest).sort()).toEqual(Object.keys(constraints).sort());
  expect((await post('/v1/jobs?dry_run=true', adapt({ constraints: nearest }))).status).toBe(200);
});

test('dry_run estimates and starts nothing', async () => {
  const count = async () => (await get('/v1/jobs?limit=100')).body.data.length as number;
  const before = await count();
  const { status, body } = await post('/v1/jobs?dry_run=true', adapt({ budget: { max_candidates: 20 } }));
  expect(status).toBe(200);
  expect(body).toMatchObject({
    valid: true,
    kind: 'adapt',
    estimate: { candidates: 20, images: { train: 60, validation: 20, test: 20 } },
  });
  expect(body.estimate.space.max_macs).toBeGreaterThan(body.estimate.space.min_macs);
  const limited = await post('/v1/jobs?dry_run=true', adapt({ budget: { max_seconds: 10 } }));
  expect(limited.body.estimate.seconds).toBe(10);
  expect(await count()).toBe(before);
});

test('actions: 202 on change, 200 again, 409 when illegal', async () => {
  const create = async () => (await post('/v1/jobs', adapt())).body.id as string;
  const act = async (id: string, action: string) => {
    const { status, body } = await post(`/v1/jobs/${id}/${action}`);
    return [status, status === 409 ? body.detail : body.status];
  };
  const id = await create();
  expect(await act(id, 'stop')).toEqual([409, `${id} is queued: it cannot be asked to stop.`]);
  expect(await act(id, 'pause')).toEqual([202, 'paused']);
  expect(await act(id, 'pause')).toEqual([200, 'paused']);
  expect(await act(id, 'resume')).toEqual([202, 'queued']);
  expect(await act(id, 'resume')).toEqual([200, 'queued']);
  expect(await act(id, 'cancel')).toEqual([202, 'cancelled']);
  expect(await act(id, 'cancel')).toEqual([200, 'cancelled']);
  expect((await act(id, 'resume'))[0]).toBe(409);
  const { lease } = await claimedJob(api);
  expect(await act(lease.jobId, 'stop')).toEqual([202, 'stopping']);
  expect(await act(lease.jobId, 'stop')).toEqual([200, 'stopping']);
  expect(await act(lease.jobId, 'cancel')).toEqual([202, 'cancelling']);
  expect((await post(`/v1/jobs/${newId('job')}/cancel`)).status).toBe(404);
});

test('candidates, all and on the front', async () => {
  const { lease } = await claimedJob(api);
  const one = {
    macs: 1e6,
    params: 1000,
    latency_ms: null,
    score: -0.5,
    metrics: { top1: 0.8, loss: 0.5 },
    selected: false,
  };
  const genotype = (resolution: number) => ({
    space: 'tiny',
    resolution,
    stages: [[{ kernel: 3, expand: 2 }]],
  });
  await api.db.jobs.putCandidates(lease, [
    { ...one, genotype: genotype(24), pareto: true },
    { ...one, genotype: genotype(32), pareto: false },
  ]);
  const path = `/v1/jobs/${lease.jobId}/candidates`;
  expect((await get(path)).body.data).toMatchObject([{ pareto: true }, { pareto: false }]);
  expect((await get(`${path}?pareto=true`)).body.data).toMatchObject([{ genotype: genotype(24) }]);
  expect((await get(`${path}?limit=1`)).body).toMatchObject({ has_more: true });
  expect((await get(`/v1/jobs/${newId('job')}/candidates`)).status).toBe(404);
});

test('supernets by list, id and name', async () => {
  const { data } = (await get('/v1/supernets')).body;
  expect(data).toMatchObject([{ name: 'tiny', builtin: true }]);
  expect((await get('/v1/supernets/tiny')).body).toEqual(data[0]);
  expect((await get(`/v1/supernets/${data[0].id}`)).body.search_space.stages.length).toBeGreaterThan(0);
  expect((await get('/v1/supernets/nope')).status).toBe(404);
  expect((await get('/v1/supernets/NO%20PE')).status).toBe(404);
});

test('Idempotency-Key: one job however often it is sent, also at once', async () => {
  const send = (key: string, body: object) =>
    request(api.url)
      .post('/v1/jobs')
      .set('authorization', as('write'))
      .set('idempotency-key', key)
      .send(body);
  const body = adapt({ seed: 11 });
  const race = await Promise.all(Array.from({ length: 8 }, () => send('race', body)));
  const made = race.filter((r) => r.status === 202 && !r.headers['idempotency-replayed']);
  expect(made.length).toBe(1);
  for (const r of race) expect([202, 409]).toContain(r.status);
  const again = await send('race', Object.fromEntries(Object.entries(body).reverse()));
  expect({ status: again.status, replayed: again.headers['idempotency-replayed'] }).toEqual({
    status: 202,
    replayed: 'true',
  });
  expect(again.body).toEqual(made[0]!.body);
  const jobs = (await get('/v1/jobs?limit=100')).body.data as { request: { seed?: number } }[];
  expect(jobs.filter((j) => j.request.seed === 11).length).toBe(1);
  const changed = await send('race', adapt({ seed: 12 }));
  expect({ status: changed.status, code: changed.body.code }).toEqual({
    status: 422,
    code: 'idempotency-mismatch',
  });
  await api.db.idempotency.begin('default', 'busy', 'POST /v1/jobs', 'whatever', 30);
  expect((await send('busy', body)).status).toBe(422);
  // A refused request leaves its key free.
  expect((await send('free', { ...body, dataset: newId('ds') })).status).toBe(422);
  expect((await send('free', body)).status).toBe(202);
  expect((await send('x'.repeat(256), body)).status).toBe(400);
  expect((await send('with space', body)).status).toBe(400);
});

test('a key in flight answers 409', async () => {
  const { bodyHash } = await import('./plugins/idempotency.js');
  const body = adaptRequest(dataset, { seed: 21, supernet: 'tiny', baseline: true });
  await api.db.idempotency.begin('default', 'in-flight', 'POST /v1/jobs', bodyHash(body), 30);
  const answer = await request(api.url)
    .post('/v1/jobs')
    .set('authorization', as('write'))
    .set('idempotency-key', 'in-flight')
    .send(body);
  expect({ status: answer.status, code: answer.body.code }).toEqual({
    status: 409,
    code: 'idempotency-in-flight',
  });
});
