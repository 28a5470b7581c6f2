/** Tenants: what is whose, what each may have, and what is written down of what they do. */
import request from 'supertest';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '@ntaa/contracts';
import {
  adaptRequest,
  builtinSupernet,
  claimedJob,
  readyDataset,
  startApi,
  succeedWithModel,
  type ApiStack,
} from '../../../test/setup/api.js';

let api: ApiStack;
beforeAll(async () => {
  api = await startApi();
  await builtinSupernet(api);
});
afterAll(() => api?.close());

const send = (method: string, path: string, secret: string, body?: object) => {
  const sent = request(api.url)[method.toLowerCase() as 'get'](path).set('authorization', `Bearer ${secret}`);
  return body === undefined ? sent : sent.send(body);
};
const get = (path: string, secret: string = api.keys.admin) => send('get', path, secret);
const post = (path: string, body: object, secret: string = api.keys.admin) =>
  send('post', path, secret, body);

/** A tenant and a key of it. */
async function newTenant(quotas: object = {}, scopes = ['admin']): Promise<{ id: string; key: string }> {
  const made = await post('/v1/tenants', { name: 'lab', quotas });
  expect(made.status, made.text).toBe(201);
  const key = await post('/v1/api-keys', { name: 'first', scopes, tenant: made.body.id });
  expect(key.status, key.text).toBe(201);
  expect(key.body.tenant).toBe(made.body.id);
  return { id: made.body.id as string, key: key.body.secret as string };
}
const jobBody = (dataset: string) => adaptRequest(dataset) as object;
const ZIP = Buffer.concat([Buffer.from('PK\x03\x04'), Buffer.alloc(2000, 7)]);

test('the operator makes, limits and disables tenants; nobody else does', async () => {
  const { id, key } = await newTenant({ bytes: 5000 });
  expect((await get(`/v1/tenants/${id}`)).body).toMatchObject({
    object: 'tenant',
    name: 'lab',
    quotas: { bytes: 5000, images: null },
    disabled_at: null,
  });
  expect((await get('/v1/tenants')).body.data.map((t: { id: string }) => t.id)).toEqual([id, 'default']);
  for (const [method, path, body] of [
    ['get', '/v1/tenants'],
    ['get', `/v1/tenants/${id}`],
    ['post', '/v1/tenants', { name: 'x' }],
    ['patch', `/v1/tenants/${id}`, { quotas: { bytes: null } }],
    ['post', '/v1/api-keys', { name: 'x', scopes: ['read'], tenant: 'default' }],
    ['get', '/v1/api-keys?tenant=default'],
  ] as const)
    expect([path, (await send(method, path, key, body)).status]).toEqual([path, 403]);
  expect((await post('/v1/api-keys', { name: 'x', scopes: ['read'], tenant: newId('ten') })).status).toBe(
    422,
  );

  const own = await post('/v1/api-keys', { name: 'reader', scopes: ['read'] }, key);
  expect(own.body).toMatchObject({ tenant: id });
  expect((await get('/v1/datasets', own.body.secret)).status).toBe(200);
  const [listed] = (await get('/v1/api-keys', key)).body.data;
  expect(listed).toMatchObject({ id: own.body.id, tenant: id, revoked_at: null });
  expect(Date.now() - Date.parse(listed.last_used_at)).toBeLessThan(60_000);
  expect((await get(`/v1/api-keys?tenant=${id}`)).body.data).toHaveLength(2);

  const change = (body: object, whose = id) => send('patch', `/v1/tenants/${whose}`, api.keys.admin, body);
  expect((await change({ quotas: { images: 7 } })).body.quotas).toMatchObject({ bytes: 5000, images: 7 });
  expect((await change({ disabled: true })).body.disabled_at).not.toBeNull();
  expect((await get('/v1/datasets', key)).status).toBe(401);
  expect((await change({ disabled: false, name: 'lab 2' })).body).toMatchObject({
    name: 'lab 2',
    disabled_at: null,
  });
  expect((await get('/v1/datasets', key)).status).toBe(200);
  expect((await change({ disabled: true }, 'default')).status).toBe(409);
  expect((await change({ quotas: { bytes: -1 } })).status).toBe(422);
  expect((await change({}, newId('ten'))).status).toBe(422);
  expect((await change({ name: 'x' }, newId('ten'))).status).toBe(404);
});

test("on every route another tenant's id is answered like one that does not exist", async () => {
  const claim = await claimedJob(api);
  const stored = { ...(await api.store.put('models/other/x', ZIP)), key: 'models/other/x' };
  const model = await succeedWithModel(api, claim, {
    bundle: { ...stored, filename: 'x.zip', contentType: 'application/zip' },
  });
  const sn = newId('sn');
  const supernet = (await api.db.supernets.get('default', 'tiny'))!;
  await api.db.supernets.create('default', { ...supernet, id: sn, name: 'mine', key: null });
  const webhook = await post('/v1/webhooks', { url: 'https://example.com/', events: ['*'] });
  const ids: Record<string, string> = {
    datasets: String(claim.job.request['dataset']),
    jobs: claim.lease.jobId,
    models: model,
    supernets: sn,
    uploads: (await post('/v1/uploads', { size: 10 })).body.id as string,
    webhooks: webhook.body.id as string,
    'api-keys': (await get('/v1/api-keys')).body.data[0].id as string,
  };
  const missing: Record<string, string> = {
    ...{ datasets: newId('ds'), jobs: newId('job'), models: newId('mdl'), supernets: newId('sn') },
    ...{ uploads: newId('up'), webhooks: newId('wh'), 'api-keys': newId('key') },
  };
  const { paths } = (await request(api.url).get('/openapi.json')).body as { paths: Record<string, object> };
  const seen = new Set<string>();
  for (const [path, methods] of Object.entries(paths))
    for (const method of Object.keys(methods)) {
      const kind = path.split('/')[2]!;
      if (!path.includes('{id}') || kind === 'tenants') continue;
      seen.add(kind);
      const ask = (id: string) =>
        path.endsWith('/predict')
          ? send(method, path.replace('{id}', id), api.keys.stranger).attach('file', ZIP, 'x.png')
          : send(
              method,
              path.replace('{id}', id),
              api.keys.stranger,
              method === 'patch' ? { enabled: true } : undefined,
            );
      const [theirs, none] = [await ask(ids[kind]!), await ask(missing[kind]!)];
      expect([method, path, theirs.status]).toEqual([method, path, 404]);
      const plain = ({ text }: { text?: string }, id: string) =>
        (text ?? '').replaceAll(id, 'ID').replace(/"request_id":"[^"]*"/, '');
      expect(plain(theirs, ids[kind]!)).toBe(plain(none, missing[kind]!));
    }
  expect([...seen].sort()).toEqual(Object.keys(ids).sort());

  // Lists, cursors, and references inside of bodies.
  for (const kind of Object.keys(ids).filter((kind) => kind !== 'uploads')) {
    const list = (await get(`/v1/${kind}?limit=100`, api.keys.stranger)).body.data as { id: string }[];
    expect(list.map(({ id }) => id)).not.toContain(ids[kind]);
    expect((await get(`/v1/${kind}?after=${ids[kind]}`, api.keys.stranger)).status).toBe(422);
  }
  const job = await post('/v1/jobs', jobBody(ids['datasets']!), api.keys.stranger);
  expect([job.status, job.body.errors[0].code]).toEqual([422, 'unknown-dataset']);
  const other = await readyDataset(api, 'other');
  const named = await post('/v1/jobs', { ...jobBody(other), supernet: 'mine' }, api.keys.stranger);
  expect([named.status, named.body.errors[0].code]).toEqual([422, 'unknown-supernet']);
  const upload = await post('/v1/datasets', { upload: ids['uploads'] }, api.keys.stranger);
  expect([upload.status, upload.body.errors[0].code]).toEqual([422, 'unknown-upload']);
});

test('quotas: bytes, images, pixels', async () => {
  const { id, key } = await newTenant({ bytes: 5000, images: 150, pixels: 1000 });
  const upload = () =>
    request(api.url).post('/v1/datasets').set('authorization', `Bearer ${key}`).attach('file', ZIP, 'x.zip');
  expect((await upload()).status).toBe(202);
  expect((await upload()).status).toBe(202);
  const refused = await upload();
  expect([refused.status, refused.body.code]).toEqual([422, 'quota-exceeded']);
  expect(refused.body.errors).toMatchObject([{ pointer: '/quotas/bytes', code: 'quota-exceeded' }]);
  expect(refused.body.detail).toContain('4008 are used, this needs 2004');
  expect((await post('/v1/uploads', { size: 2000 }, key)).body.code).toBe('quota-exceeded');
  expect((await post('/v1/uploads', { size: 900 }, key)).status).toBe(201);
  // Known to be too much before it was sent.
  await api.db.tenants.update(id, { quotas: { bytes: 100_000 } });
  const early = await request(api.url)
    .post('/v1/datasets')
    .set('authorization', `Bearer ${key}`)
    .attach('file', Buffer.concat([ZIP, Buffer.alloc(400_000)]), 'x.zip');
  expect(early.body.code).toBe('quota-exceeded');

  const [first, second, third] = (await get('/v1/datasets', key)).body.data
    .map((dataset: { id: string }) => dataset.id)
    .concat((await readyDataset(api, id)) as never) as string[];
  const report = { error: null, skipped: [], warnings: [], sizes: null };
  const ready = (dataset: string, images: number, pixels: number) =>
    api.db.datasets.markReady(dataset, {
      ...{ format: 'image-folder', labels: [], report, pack: {} },
      counts: { images, skipped: 0, bytes: 1, classes: 2, splits: null, pixels },
    });
  expect(third).toBeDefined(); // 100 images already
  expect(await ready(first!, 51, 10)).toBe(true);
  const { body } = await get(`/v1/datasets/${first}`, key);
  expect([body.status, body.report.error.code]).toEqual(['invalid', 'quota-exceeded']);
  expect(await ready(second!, 50, 1001)).toBe(true);
  expect((await get(`/v1/datasets/${second}`, key)).body.report.error.detail).toContain('1000 pixels');
  expect((await get('/v1/usage', key)).body).toMatchObject({
    object: 'usage',
    tenant: id,
    bytes: { used: 901, limit: 100_000 },
    images: { used: 100, limit: 150 },
    pixels: { used: 0, limit: 1000 },
  });
});

test('quotas: jobs that have not ended, also of many at once; compute; requests', async () => {
  const { id, key } = await newTenant({ concurrent_jobs: 3 });
  const dataset = await readyDataset(api, id);
  const answers = await Promise.all(Array.from({ length: 8 }, () => post('/v1/jobs', jobBody(dataset), key)));
  const made = answers.filter(({ status }) => status === 202).map(({ body }) => String(body.id));
  expect(made).toHaveLength(3);
  const refused = answers.find(({ status }) => status === 429)!;
  expect(refused.body).toMatchObject({
    code: 'too-many-jobs',
    errors: [{ pointer: '/quotas/concurrent_jobs' }],
  });
  expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
  expect((await send('post', `/v1/jobs/${made[0]}/cancel`, key)).status).toBe(202);
  expect((await post('/v1/jobs', jobBody(dataset), key)).status).toBe(202);

  const claim = (await api.db.jobs.claim(made[1]!, 'test', 60_000))!;
  await new Promise((resolve) => setTimeout(resolve, 1100));
  const used = async () => (await get('/v1/usage', key)).body.compute_seconds.used as number;
  expect(await used()).toBeGreaterThan(1);
  await api.db.jobs.release(claim.lease);
  const after = await used();
  expect(after).toBeGreaterThan(1);
  expect(after).toBeLessThan(20);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await used()).toBe(after);
  await api.db.tenants.update(id, { quotas: { compute_seconds_per_month: 1, concurrent_jobs: null } });
  const spent = await post('/v1/jobs', jobBody(dataset), key);
  expect([spent.status, spent.body.code]).toEqual([429, 'compute-exhausted']);
  expect(Number(spent.headers['retry-after'])).toBeGreaterThan(1);

  await api.db.tenants.update(id, { quotas: { requests_per_second: 2 } });
  const many = await Promise.all(Array.from({ length: 10 }, () => get('/v1/limits', key)));
  expect(many.filter(({ status }) => status === 429).length).toBeGreaterThan(5);
  const answer = () => get('/v1/limits', key);
  await expect.poll(async () => (await answer()).status, { timeout: 10_000, interval: 1100 }).toBe(200);
  expect((await answer()).body).toMatchObject({
    object: 'limits',
    quotas: { compute_seconds_per_month: 1, bytes: null },
    requests: { per_second: 2 },
    datasets: { image_pixels: 50e6 },
  });
});

test('the audit log: who did what, from where', async () => {
  const { id, key } = await newTenant();
  const made = await post('/v1/webhooks', { url: 'https://example.com/', events: ['*'] }, key);
  await get('/v1/webhooks', key);
  await post('/v1/webhooks', { url: 'nonsense', events: ['*'] }, key);
  await send('delete', `/v1/webhooks/${newId('wh')}`, key);
  const read = await post('/v1/api-keys', { name: 'r', scopes: ['read'] }, key);
  await send('post', '/v1/jobs', read.body.secret, {});
  const { data } = (await get('/v1/audit', key)).body;
  expect(data.map((e: { action: string; status: number }) => `${e.status} ${e.action}`)).toEqual([
    '403 POST /v1/jobs',
    '201 POST /v1/api-keys',
    '404 DELETE /v1/webhooks/:id',
    '201 POST /v1/webhooks',
  ]);
  expect(data[3]).toMatchObject({
    ...{ object: 'audit_entry', tenant: id, target: made.body.id, address: '127.0.0.1' },
    request_id: made.headers['x-request-id'],
    actor: expect.stringMatching(/^key_/) as string,
  });
  expect(JSON.stringify(data)).not.toMatch(/ntaa_|whsec_/);
  const page = (await get('/v1/audit?limit=1', key)).body;
  const next = (await get(`/v1/audit?limit=1&after=${page.next_cursor}`, key)).body;
  expect([page.data[0].id, next.data[0].id]).toEqual([data[0].id, data[1].id]);
  expect((await get('/v1/audit?after=x', key)).status).toBe(422);
  expect((await get('/v1/audit?tenant=default', key)).body.data).toEqual([]);
  expect((await get('/v1/audit', read.body.secret)).status).toBe(403);
  // The operator sees everybody's.
  expect((await get(`/v1/audit?tenant=${id}`)).body.data).toEqual(data);
  expect((await get('/v1/audit?limit=100')).body.data).toEqual(expect.arrayContaining(data));
});
