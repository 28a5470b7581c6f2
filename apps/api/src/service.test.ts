/** What holds on every route: keys, scopes, problems, limits, documents. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { startEmbeddedPostgres } from '@ntaa/db';
import request from 'supertest';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startApi, type ApiStack } from '../../../test/setup/api.js';

let api: ApiStack;
beforeAll(async () => {
  api = await startApi();
});
afterAll(() => api?.close());

const get = (path: string, key?: keyof ApiStack['keys']) => {
  const sent = request(api.url).get(path);
  return key ? sent.set('authorization', `Bearer ${api.keys[key]}`) : sent;
};
type OpenApi = {
  paths: Record<
    string,
    Record<string, { security?: unknown; responses: Record<string, { content?: object }> }>
  >;
  components: { schemas: object };
};

test('no key, another scheme, a wrong key, a wrong scope', async () => {
  for (const [header, error] of [
    [undefined, undefined],
    ['Basic YTpi', 'invalid_request'],
    ['Bearer', 'invalid_request'],
    ['Bearer a b', 'invalid_request'],
    ['Bearer ntaa_wrong', 'invalid_token'],
  ]) {
    const sent = request(api.url).get('/v1/jobs');
    const { status, headers, body } = await (header ? sent.set('authorization', header) : sent);
    expect(status, header).toBe(401);
    expect(headers['www-authenticate']).toBe(`Bearer realm="ntaa"${error ? `, error="${error}"` : ''}`);
    expect(headers['content-type']).toMatch(/^application\/problem\+json/);
    expect(body).toMatchObject({
      status: 401,
      code: 'unauthorized',
      instance: '/v1/jobs',
      request_id: headers['x-request-id'],
    });
  }
  const scope = await get('/v1/jobs', 'write');
  expect({ status: scope.status, code: scope.body.code }).toEqual({ status: 403, code: 'forbidden' });
  expect((await get('/v1/api-keys', 'read')).status).toBe(403);
  expect(
    (await request(api.url).post('/v1/jobs').set('authorization', `Bearer ${api.keys.read}`).send({})).status,
  ).toBe(403);
  expect(
    (await request(api.url).get('/v1/jobs').set('authorization', `bearer ${api.keys.admin}`)).status,
  ).toBe(200);
});

test('every route of /v1 needs a key, and is described with its errors', async () => {
  const document = (await get('/openapi.json')).body as OpenApi;
  for (const [path, methods] of Object.entries(document.paths)) {
    if (!path.startsWith('/v1')) continue;
    for (const [method, operation] of Object.entries(methods)) {
      const url = path.replace('{id}', 'x');
      const { status } = await request(api.url)[method as 'get'](url);
      expect(status, `${method} ${path}`).toBe(401);
      for (const error of ['401', '403', '429', '500', '503'])
        expect(operation.responses[error], `${method} ${path} ${error}`).toBeDefined();
      expect(operation.security, `${method} ${path}`).toBeUndefined();
    }
  }
});

test('the OpenAPI document lists every route and has no dangling reference', async () => {
  const document = (await get('/openapi.json')).body as OpenApi & { openapi: string };
  expect(document.openapi).toBe('3.1.0');
  const listed = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(listed.sort()).toEqual(
    [
      ...['GET /healthz', 'GET /readyz', 'GET /metrics'],
      ...[
        'POST /v1/datasets',
        'GET /v1/datasets',
        'GET /v1/datasets/{id}',
        'GET /v1/datasets/{id}/report',
        'DELETE /v1/datasets/{id}',
      ],
      ...['POST /v1/uploads', 'GET /v1/uploads/{id}'],
      ...['GET /v1/supernets', 'GET /v1/supernets/{id}'],
      ...[
        'POST /v1/jobs',
        'GET /v1/jobs',
        'GET /v1/jobs/{id}',
        'GET /v1/jobs/{id}/events',
        'GET /v1/jobs/{id}/candidates',
      ],
      ...['cancel', 'stop', 'pause', 'resume'].map((action) => `POST /v1/jobs/{id}/${action}`),
      ...[
        'GET /v1/models',
        'GET /v1/models/{id}',
        'GET /v1/models/{id}/download',
        'HEAD /v1/models/{id}/download',
        'GET /v1/models/{id}/report',
        'POST /v1/models/{id}/predict',
      ],
      ...['POST /v1/api-keys', 'GET /v1/api-keys', 'DELETE /v1/api-keys/{id}'],
      ...['POST /v1/tenants', 'GET /v1/tenants', 'GET /v1/tenants/{id}', 'PATCH /v1/tenants/{id}'],
      ...['GET /v1/limits', 'GET /v1/usage', 'GET /v1/audit'],
      ...['POST /v1/webhooks', 'GET /v1/webhooks', 'POST /v1/webhooks/{id}/ping'],
      ...['GET', 'PATCH', 'DELETE'].map((method) => `${method} /v1/webhooks/{id}`),
      'GET /v1/webhooks/{id}/deliveries',
      'GET /v1/workers',
    ].sort(),
  );
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]*)"/g)].map((m) => m[1]!);
  expect(references.length).toBeGreaterThan(20);
  for (const reference of new Set(references)) {
    expect(reference).toMatch(/^#\//);
    const target = reference
      .slice(2)
      .split('/')
      .reduce<unknown>((node, key) => (node as Record<string, unknown>)?.[key], document);
    expect(target, reference).toBeDefined();
  }
  expect(Object.keys(document.components.schemas)).toEqual(
    expect.arrayContaining(['Dataset', 'Job', 'Model', 'Problem']),
  );
  expect(JSON.stringify(document)).not.toContain('"additionalItems"');
});

test('/docs is served with its own assets', async () => {
  const page = await get('/docs/').redirects(2);
  expect(page.status).toBe(200);
  expect(page.text).not.toMatch(/https?:\/\/(?!www\.w3\.org)/);
  const script = /src="([^"]*swagger-ui-bundle\.js)"/.exec(page.text)?.[1];
  expect((await get(new URL(script!, `${api.url}/docs/`).pathname)).status).toBe(200);
  expect(page.headers['content-security-policy']).toContain("script-src 'self'");
});

test('unknown routes and methods', async () => {
  const unknown = await get('/v1/nope', 'read');
  expect(unknown.body).toMatchObject({ status: 404, code: 'not-found', type: 'urn:ntaa:problem:not-found' });
  const method = await request(api.url).put('/v1/jobs').send({});
  expect({ status: method.status, allow: method.headers['allow'] }).toEqual({
    status: 405,
    allow: expect.stringContaining('POST'),
  });
  expect((await request(api.url).delete('/v1/jobs/job_x')).status).toBe(405);
  expect((await get('/%E0%A4%A')).status).toBe(400);
  expect((await get(`/v1/jobs/${'x'.repeat(300)}`, 'read')).status).toBe(404);
});

test('hostile bodies are refused and the service stays alive', async () => {
  const post = (body: string | Buffer, type = 'application/json') =>
    request(api.url)
      .post('/v1/jobs')
      .set('authorization', `Bearer ${api.keys.write}`)
      .set('content-type', type)
      .send(body as string);
  const cases: [string, number, string, string?][] = [
    ['{"kind":', 400, 'malformed-request'],
    ['', 422, 'validation-failed'],
    ['{"__proto__":{"x":1}}', 400, 'malformed-request'],
    ['{"constructor":{"prototype":{"x":1}}}', 400, 'malformed-request'],
    ['null', 422, 'validation-failed'],
    ['[]', 422, 'validation-failed'],
    ['"x"', 422, 'validation-failed'],
    ['['.repeat(400_000) + ']'.repeat(400_000), 422, 'validation-failed'],
    ['{"a":'.repeat(150_000) + '1' + '}'.repeat(150_000), 422, 'validation-failed'],
    [
      `{"kind":"adapt","metadata":{${Array.from({ length: 50_000 }, (_, i) => `"${i}":1`).join()}}}`,
      422,
      'validation-failed',
    ],
    [
      `{"kind":"adapt","constraints":{${Array.from({ length: 50_000 }, (_, i) => `"${i}":1`).join()}}}`,
      422,
      'validation-failed',
    ],
    [`{"x":"${'x'.repeat(1100 * 1024)}"}`, 413, 'payload-too-large'],
    ['<x/>', 415, 'unsupported-media-type', 'application/xml'],
    ['a=b', 415, 'unsupported-media-type', 'application/x-www-form-urlencoded'],
  ];
  for (const [body, status, code, type] of cases) {
    const started = Date.now();
    const answer = await post(body, type);
    expect([answer.status, answer.body.code], body.slice(0, 40)).toEqual([status, code]);
    expect(answer.body.errors.length).toBeLessThanOrEqual(100);
    expect(Date.now() - started).toBeLessThan(10_000);
  }
  expect((await get('/healthz')).status).toBe(200);
});

test('bodies that are not what they are called', async () => {
  const post = async (path: string, body: Buffer, headers: Record<string, string>) => {
    const all = { authorization: `Bearer ${api.keys.write}`, ...headers };
    const answer = await fetch(api.url + path, { method: 'POST', headers: all, body });
    const { code, errors } = (await answer.json()) as {
      code: string;
      errors: { pointer: string; code: string }[];
    };
    return [answer.status, code, ...errors.map((e) => `${e.pointer} ${e.code}`)];
  };
  const json = { 'content-type': 'application/json' };
  const form = (boundary: string) => ({ 'content-type': `multipart/form-data; boundary=${boundary}` });
  const part = (header: string, text: string) =>
    Buffer.from(`--b\r\nContent-Disposition: form-data; ${header}\r\n\r\n${text}\r\n--b--\r\n`);
  const latin1 = Buffer.from('{"kind":"adapt","metadata":{"a":"\xe9"}}', 'latin1');
  expect(await post('/v1/jobs', latin1, json)).toEqual([400, 'malformed-request']);
  expect(await post('/v1/jobs', gzipSync('{}'), { ...json, 'content-encoding': 'gzip' })).toEqual([415, 'unsupported-media-type']); // prettier-ignore
  expect(await post('/v1/jobs', Buffer.from('{}'), { ...json, 'content-encoding': 'identity' })).toContain(
    422,
  );
  expect(await post('/v1/datasets', Buffer.from('x'), form('q'.repeat(300)))).toEqual([400, 'malformed-request']); // prettier-ignore
  expect(await post('/v1/datasets', part('name="file"', 'PK'), form('b'))).toEqual([422, 'validation-failed', '/file not-a-file']); // prettier-ignore
  expect(await post('/v1/datasets', part('filename="x"', 'PK'), form('b'))).toEqual([422, 'validation-failed', '/file required', '/ unexpected-file']); // prettier-ignore
  // What sends nothing may call it what it likes.
  for (const type of ['application/x-www-form-urlencoded', 'application/json', 'text/plain'])
    expect(await post('/v1/jobs/job_x/cancel', Buffer.alloc(0), { 'content-type': type })).toEqual([404, 'not-found']); // prettier-ignore
});

test('broken HTTP is answered as a problem', async () => {
  const socket = connect(Number(new URL(api.url).port), '127.0.0.1');
  socket.end('NONSENSE\r\n\r\n');
  let text = '';
  socket.on('data', (chunk) => (text += String(chunk)));
  await once(socket, 'close');
  expect(text).toMatch(/^HTTP\/1\.1 400 /);
  expect(JSON.parse(text.split('\r\n\r\n')[1]!)).toMatchObject({ status: 400, code: 'malformed-request' });
});

test('request ids are taken when sane, made otherwise', async () => {
  const ask = async (given?: string) => {
    const sent = request(api.url).get('/healthz');
    return (await (given ? sent.set('x-request-id', given) : sent)).headers['x-request-id'] as string;
  };
  expect(await ask('my-id.1')).toBe('my-id.1');
  for (const bad of [undefined, 'has space', 'x'.repeat(200), '"quoted"'])
    expect(await ask(bad)).toMatch(/^req_[0-9a-z]{22}$/);
});

test('security headers', async () => {
  const { headers } = await get('/healthz');
  expect(headers).toMatchObject({
    'x-content-type-options': 'nosniff',
    'content-security-policy': "default-src 'none';frame-ancestors 'none'",
  });
  expect(headers['x-powered-by']).toBeUndefined();
});

test('health, readiness and metrics', async () => {
  expect((await get('/healthz')).body).toEqual({ status: 'ok' });
  expect((await get('/readyz')).body).toEqual({
    status: 'ok',
    checks: { db: 'ok', queue: 'ok', storage: 'ok' },
  });
  const engine = { kind: 'wasm', name: 'wasm-simd 1+k1', reason: 'said "so"' };
  for (const worker of ['one', 'two'])
    await api.db.workers.present(worker, engine, { slots: 1, free: 1, idleMs: 0 });
  const { text, headers } = await get('/metrics');
  expect(headers['content-type']).toMatch(/^text\/plain/);
  expect(text).toMatch(
    /http_request_duration_seconds_count\{method="GET",route="\/healthz",status="200"\} \d+/,
  );
  expect(text).toMatch(/ntaa_jobs\{status="queued"\} 0/);
  expect(text).toMatch(/ntaa_queue_jobs\{name="job\.run",state="waiting"\} \d+/);
  expect(text).toContain('process_resident_memory_bytes');
  expect(text.split('\n').filter((line) => line.startsWith('ntaa_engine_info'))).toEqual([
    'ntaa_engine_info{kind="wasm",name="wasm-simd 1+k1",reason="said \\"so\\""} 1',
  ]);
  expect(text).toContain('ntaa_workers{state="idle"} 2');
  expect(text).toContain('ntaa_workers{state="stalled"} 0');
  expect((await get('/v1/workers', 'admin')).body).toMatchObject({
    data: [{ id: 'one', object: 'worker', state: 'idle', engine, slots: 1, free: 1 }, { id: 'two' }],
    has_more: false,
  });
  for (const key of ['read', 'stranger'] as const)
    expect((await get('/v1/workers', key)).status, key).toBe(403);
  for (const worker of ['one', 'two']) await api.db.workers.gone(worker);
  expect((await get('/metrics')).text).not.toMatch(/^ntaa_engine_info\{/m);
});

test('API keys: made once, listed without secrets, revoked; a replay has no secret', async () => {
  const admin = `Bearer ${api.keys.admin}`;
  const make = (body: object) =>
    request(api.url)
      .post('/v1/api-keys')
      .set('authorization', admin)
      .set('idempotency-key', 'key-1')
      .send(body);
  const first = await make({ name: 'ci', scopes: ['read'] });
  expect(first.status).toBe(201);
  expect(first.body.secret).toMatch(/^ntaa_/);
  const again = await make({ name: 'ci', scopes: ['read'] });
  expect(again.headers['idempotency-replayed']).toBe('true');
  expect(again.body).toEqual({ ...first.body, secret: null });
  const use = () => request(api.url).get('/v1/jobs').set('authorization', `Bearer ${first.body.secret}`);
  expect((await use()).status).toBe(200);
  const list = (await get('/v1/api-keys', 'admin')).body;
  expect(list.data[0]).toMatchObject({ id: first.body.id, name: 'ci', scopes: ['read'], revoked_at: null });
  expect(JSON.stringify(list)).not.toContain(first.body.secret);
  const revoke = (key: string) =>
    request(api.url).delete(`/v1/api-keys/${first.body.id}`).set('authorization', key);
  expect((await revoke(`Bearer ${api.keys.stranger}`)).status).toBe(404);
  expect((await revoke(admin)).status).toBe(204);
  expect((await revoke(admin)).status).toBe(404);
  expect((await use()).status).toBe(401);
  const bad = await request(api.url)
    .post('/v1/api-keys')
    .set('authorization', admin)
    .send({ name: '', scopes: ['root'] });
  expect(bad.body.errors.map((e: { pointer: string }) => e.pointer)).toEqual(['/name', '/scopes/0']);
});

test('rate limits: of a key, and of an address with wrong keys', async () => {
  const own = await startApi({ limits: { requestsPerSecond: 5, failedAuthPerMinute: 3 } });
  try {
    const ask = (key: string) => request(own.url).get('/v1/jobs').set('authorization', `Bearer ${key}`);
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(own.keys.read)));
    const refused = answers.filter((a) => a.status === 429);
    expect(refused.length).toBeGreaterThan(0);
    expect(refused[0]!.body.code).toBe('too-many-requests');
    expect(Number(refused[0]!.headers['retry-after'])).toBeGreaterThan(0);
    const wrong = [];
    for (let i = 0; i < 5; i++) wrong.push((await ask('nonsense')).status);
    expect(wrong).toEqual([401, 401, 401, 429, 429]);
    expect((await ask(own.keys.admin)).status).toBe(200);
  } finally {
    await own.close();
  }
});

test('with the database gone: 503 that tells nothing, readiness names it', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'ntaa-gone-'));
  const postgres = await startEmbeddedPostgres({ dataDir, ephemeral: true });
  const own = await startApi({ stack: { databaseUrl: postgres.url, close: async () => undefined } });
  try {
    await postgres.stop();
    const list = await request(own.url).get('/v1/jobs').set('authorization', `Bearer ${own.keys.read}`);
    expect([list.status, list.body.code]).toEqual([503, 'unavailable']);
    expect(list.headers['retry-after']).toBeDefined();
    expect(list.text).not.toMatch(/prisma|postgres|127\.0\.0\.1/i);
    const ready = await request(own.url).get('/readyz');
    expect(ready.status).toBe(503);
    expect(ready.body).toMatchObject({ status: 'down', checks: { db: 'down', storage: 'ok' } });
    expect((await request(own.url).get('/metrics')).status).toBe(200);
    expect((await request(own.url).get('/healthz')).status).toBe(200);
  } finally {
    await own.close();
    await rm(dataDir, { recursive: true, force: true });
  }
});
