/** Requests that no honest client sends, and what each is answered. */
import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { part, type Ask, type Target } from './target.js';

export interface RequestCase {
  readonly name: string;
  readonly method?: string;
  readonly path: string;
  readonly ask?: Ask;
  /** HTTP status and problem code. */
  readonly answer: readonly [number, string];
}

const json = (
  name: string,
  body: string | Buffer,
  answer: RequestCase['answer'],
  path = '/v1/jobs',
): RequestCase => ({
  ...{ name: `JSON: ${name}`, method: 'POST', path, answer },
  ask: { body: Buffer.from(body as string) },
});
const job = (more: string): string => `{"kind":"adapt","task":"classification","dataset":"ds_1",${more}}`;
const MALFORMED = [400, 'malformed-request'] as const;
const INVALID = [422, 'validation-failed'] as const;
const MISSING = [404, 'not-found'] as const;

export const BODIES: readonly RequestCase[] = [
  json('null', 'null', INVALID),
  json('an array', '[]', INVALID),
  json('a string', '"job"', INVALID),
  json('a number', '17', INVALID),
  json('nothing', '', INVALID),
  json('cut off', '{"kind":"adapt"', MALFORMED),
  json('two values', '{} {}', MALFORMED),
  json('not UTF-8', Buffer.from('{"kind":"\xff\xfe"}', 'latin1'), MALFORMED),
  json('UTF-16', Buffer.from('\ufeff{"kind":"adapt"}', 'utf16le'), MALFORMED),
  json('nested 100,000 deep', `${'['.repeat(100_000)}${']'.repeat(100_000)}`, INVALID),
  json(
    'nested 10,000 deep inside',
    job(`"metadata":${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`),
    INVALID,
  ),
  json('a number too large for any', job('"seed":1e999'), INVALID),
  json('a number with 100,000 digits', job(`"seed":${'9'.repeat(100_000)}`), INVALID),
  json('a negative seed', job('"seed":-1'), INVALID),
  json('a fraction of a seed', job('"seed":0.5'), INVALID),
  json('NaN', job('"seed":NaN'), MALFORMED),
  json('budgets that never end', job('"budget":{"max_seconds":1e300}'), INVALID),
  json('a budget of nothing', job('"budget":{"max_seconds":0}'), INVALID),
  json('__proto__', job('"__proto__":{"admin":true}'), MALFORMED),
  json('constructor.prototype', job('"constructor":{"prototype":{"admin":true}}'), MALFORMED),
  json('__proto__ in metadata', job('"metadata":{"__proto__":"x"}'), MALFORMED),
  json('unknown fields', job('"tenant":"default","status":"succeeded"'), INVALID),
  json('a NUL', job('"metadata":{"a":"\\u0000"}'), INVALID),
  json('half a surrogate pair', job('"metadata":{"a":"\\ud800"}'), INVALID),
  json('20,000 entries of metadata', job(`"metadata":{${Array.from({ length: 20_000 }, (_, i) => `"k${i}":"v"`).join()}}`), INVALID), // prettier-ignore
  json('an id of SQL', job('"supernet":"x\' OR 1=1 --"'), INVALID),
  json('an id with a path', '{"kind":"adapt","task":"classification","dataset":"../../etc/passwd"}', INVALID),
  json('1 MB and a byte', `"${'x'.repeat(2 ** 20)}"`, [413, 'payload-too-large']),
  json('scopes that there are not', '{"name":"x","scopes":["*","root"]}', INVALID, '/v1/api-keys'),
  json('a webhook to the metadata service', '{"url":"https://169.254.169.254/","events":["*"]}', INVALID, '/v1/webhooks'), // prettier-ignore
  json(
    'an upload larger than any dataset',
    '{"size":9007199254740991}',
    [413, 'payload-too-large'],
    '/v1/uploads',
  ),
  json('an upload of less than nothing', '{"size":-5}', INVALID, '/v1/uploads'),
  {
    name: 'JSON: packed',
    ...{ method: 'POST', path: '/v1/jobs', answer: [415, 'unsupported-media-type'] },
    ask: { body: gzipSync('{}'), headers: { 'content-encoding': 'gzip' } },
  },
  {
    name: 'JSON: called something else',
    ...{ method: 'POST', path: '/v1/jobs', answer: [415, 'unsupported-media-type'] },
    ask: { body: Buffer.from('{}'), headers: { 'content-type': 'text/xml' } },
  },
];

export const URLS: readonly RequestCase[] = [
  { name: 'a path that climbs out', path: '/v1/../../../../etc/passwd', answer: MISSING },
  { name: 'the same, encoded', path: '/v1/datasets/..%2f..%2f..%2fetc%2fpasswd', answer: MISSING },
  { name: 'the same, encoded twice', path: '/docs/static/..%252f..%252fetc%252fpasswd', answer: MISSING },
  { name: 'a file below the documentation', path: '/docs/static/../../package.json', answer: MALFORMED },
  { name: 'half an escape', path: '/v1/jobs/%E0%A4%A', answer: MALFORMED },
  { name: 'a NUL', path: '/v1/jobs/%00', answer: MISSING },
  { name: 'an id of 8,000 characters', path: `/v1/jobs/job_${'1'.repeat(8000)}`, answer: MISSING },
  { name: 'an id of another kind', path: '/v1/jobs/ds_0000000000', answer: MISSING },
  { name: 'a query of SQL', path: "/v1/jobs?status='%20OR%201=1", answer: INVALID },
  { name: 'a parameter twice', path: '/v1/jobs?limit=1&limit=2', answer: INVALID },
  { name: 'a limit too large', path: '/v1/jobs?limit=1e9', answer: INVALID },
  { name: 'a cursor that is none', path: '/v1/jobs?after=%F0%9F%92%A9', answer: INVALID },
  { name: 'a parameter named __proto__', path: '/v1/jobs?__proto__=1', answer: INVALID },
  {
    name: 'a method that there is not',
    method: 'PROPFIND',
    path: '/v1/jobs',
    answer: [405, 'method-not-allowed'],
  },
  { name: 'TRACE', method: 'TRACE', path: '/v1/jobs', answer: [405, 'method-not-allowed'] },
  {
    name: 'an idempotency key of 10,000 characters',
    ...{ method: 'POST', path: '/v1/uploads', answer: MALFORMED },
    ask: { body: { size: 10 }, headers: { 'idempotency-key': 'x'.repeat(10_000) } },
  },
  {
    name: 'an event id that is none',
    ...{ path: '/v1/jobs/job_1/events', answer: INVALID },
    ask: { headers: { 'last-event-id': '-1', accept: 'text/event-stream' } },
  },
];

type FormCase = readonly [string, (target: Target) => ReturnType<Target['ask']>, readonly [number, string]];
const form = (name: string, parts: readonly Buffer[], answer: readonly [number, string]): FormCase => [
  `form: ${name}`,
  (target) => target.form('/v1/datasets', parts),
  answer,
];
const ZIP = Buffer.concat([Buffer.from('PK\x03\x04'), Buffer.alloc(1000)]);
export const FORMS: readonly FormCase[] = [
  form('nothing', [], INVALID),
  form('no file', [part('name', Buffer.from('x'))], INVALID),
  form('two files', [part('file', ZIP, 'a.zip'), part('file', ZIP, 'b.zip')], INVALID),
  form('a file under another name', [part('archive', ZIP, 'a.zip')], INVALID),
  form(
    'a field named __proto__',
    [part('__proto__', Buffer.from('x')), part('file', ZIP, 'a.zip')],
    MALFORMED,
  ),
  form('a thousand fields', Array.from({ length: 1000 }, (_, i) => part(`f${i}`, Buffer.from('x'))), [413, 'payload-too-large']), // prettier-ignore
  form(
    'a field of a megabyte',
    [part('name', Buffer.alloc(2 ** 20, 'x')), part('file', ZIP, 'a.zip')],
    INVALID,
  ),
  form(
    'a format that there is not',
    [part('format', Buffer.from('exe')), part('file', ZIP, 'a.zip')],
    INVALID,
  ),
  form('a NUL in the name', [part('name', Buffer.from('a\0b')), part('file', ZIP, 'a.zip')], INVALID),
  [
    'form: without a boundary',
    (target) =>
      target.ask('POST', '/v1/datasets', { body: ZIP, headers: { 'content-type': 'multipart/form-data' } }),
    MALFORMED,
  ],
  [
    'form: cut off',
    (target) =>
      target.ask('POST', '/v1/datasets', {
        body: part('file', ZIP, 'a.zip'),
        headers: { 'content-type': 'multipart/form-data; boundary=hostile-boundary' },
      }),
    MALFORMED,
  ],
];

/** Bytes on a connection, and what the answer begins with; null: none at all, the connection ends. */
export type RawCase = readonly [string, (target: Target) => ReturnType<Target['raw']>, RegExp | null];
// Where not all was read, the end of the connection may come before the answer.
export const RAW: readonly RawCase[] = [
  ['not HTTP', (t) => t.raw(['hello\r\n\r\n']), /^HTTP\/1\.1 400 /],
  ['TLS', (t) => t.raw([Buffer.from('16030100c8010000c40303', 'hex'), '\r\n\r\n']), /^HTTP\/1\.1 400 /],
  ['noise', (t) => t.raw([Buffer.concat([Buffer.from([0]), randomBytes(5000)])]), /^HTTP\/1\.1 400 /],
  ['HTTP/2 without asking', (t) => t.raw(['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n']), /^HTTP\/1\.1 (400|505) /],
  ['no Host', (t) => t.raw(['GET /healthz HTTP/1.1\r\n\r\n']), /^HTTP\/1\.1 400 /],
  [
    'both lengths (smuggling)',
    (t) =>
      t.raw([t.head('POST /v1/jobs', 'Content-Length: 5', 'Transfer-Encoding: chunked'), '0\r\n\r\nGET /']),
    /^HTTP\/1\.1 400 /,
  ],
  [
    'two lengths',
    (t) => t.raw([t.head('POST /v1/jobs', 'Content-Length: 2', 'Content-Length: 3'), '{}x']),
    /^HTTP\/1\.1 400 /,
  ],
  ['a negative length', (t) => t.raw([t.head('POST /v1/jobs', 'Content-Length: -1')]), /^HTTP\/1\.1 400 /],
  [
    'a length of 10^30',
    (t) =>
      t.raw([
        t.head('POST /v1/jobs', 'Content-Type: application/json', `Content-Length: 1${'0'.repeat(30)}`),
      ]),
    /^HTTP\/1\.1 4\d\d /,
  ],
  [
    'chunks that are none',
    (t) =>
      t.raw([
        t.head('POST /v1/jobs', 'Content-Type: application/json', 'Transfer-Encoding: chunked'),
        'zz\r\n{}\r\n',
      ]),
    /^HTTP\/1\.1 400 /,
  ],
  ['a line break in a header', (t) => t.raw([t.head('GET /v1/jobs', 'X-A: b\rX-C: d')]), /^HTTP\/1\.1 400 /],
  [
    'a header of 100 kB',
    (t) => t.raw([t.head('GET /v1/jobs', `X-A: ${'b'.repeat(100_000)}`)]),
    /^HTTP\/1\.1 431 |^$/,
  ],
  [
    '20,000 headers',
    (t) => t.raw([t.head('GET /v1/jobs', ...Array.from({ length: 20_000 }, (_, i) => `X-${i}: a`))]),
    /^HTTP\/1\.1 431 |^$/,
  ],
  [
    'headers without end',
    (t) =>
      t.raw([
        `GET / HTTP/1.1\r\n`,
        ...Array.from({ length: 300 }, (_, i) => `X-${i}: ${'a'.repeat(100)}\r\n`),
      ]),
    /^HTTP\/1\.1 431 |^$/,
  ],
];
/** Take as long as the service's patience: begun first, looked at last. */
export const SLOW: readonly RawCase[] = [
  [
    'headers a byte a second',
    (t) => t.raw([...'GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: aaaaaaaaaaa'], { every: 600 }),
    /^HTTP\/1\.1 408 |^$/,
  ],
  [
    'a body that never comes',
    (t) => t.raw([t.head('POST /v1/jobs', 'Content-Type: application/json', 'Content-Length: 100'), '{']),
    null,
  ],
  [
    'a body a byte a second',
    (t) =>
      t.raw(
        [
          t.head('POST /v1/jobs', 'Content-Type: application/json', 'Content-Length: 100'),
          ...'{"kind":"adapt"'.repeat(4),
        ],
        { every: 700 },
      ),
    null,
  ],
];
