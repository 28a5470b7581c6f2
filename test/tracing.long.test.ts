/** Tracing as operators see it: real API servers and workers, and a server that takes OTLP, or refuses it, or hangs. */
import { fork, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { NtaaClient } from '@ntaa/client';
import { LAUNCHED, type LauncherMessage } from '@ntaa/config';
import type { Job } from '@ntaa/contracts';
import { Rng } from '@ntaa/random';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { ZipFile } from 'yazl';
import { startStack, type TestStack } from './setup/stack.js';

const KEY = 'ntaa_a-key-for-this-test-only';
const COLLECTOR_SECRET = 'what-the-collector-asks-for';
const LABELS = ['zebra crossing', 'private matter'];

interface OtlpValue {
  stringValue?: string;
  intValue?: number | string;
}
interface OtlpSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: OtlpValue }[];
  status: { code?: number };
}
interface OtlpBody {
  resourceSpans: { resource: { attributes: OtlpSpan['attributes'] }; scopeSpans: { spans: OtlpSpan[] }[] }[];
}
const SERVER = 2;

const plain = (attributes: OtlpSpan['attributes']): Record<string, unknown> =>
  Object.fromEntries(
    attributes.map(({ key, value }) => [key, value.stringValue ?? Number(value.intValue ?? NaN)]),
  );

let collector: Server;
const received: { headers: Record<string, unknown>; body: OtlpBody }[] = [];
const spans = () =>
  received.flatMap(({ body }) =>
    body.resourceSpans.flatMap(({ resource, scopeSpans }) =>
      scopeSpans.flatMap((scope) =>
        scope.spans.map((span) => ({
          ...span,
          of: plain(resource.attributes),
          attributes: plain(span.attributes),
        })),
      ),
    ),
  );
/** Takes whatever comes, and never answers. */
const hanging = createServer(() => undefined);

let folder: string;
let stack: TestStack;
let archive: string;
const processes: Process[] = [];

/** An API server or a worker of its own, as under Kubernetes, but that it says over IPC when it is ready. */
class Process {
  readonly #child: ChildProcess;
  url = '';
  said = '';

  constructor(app: 'api/lib/server.js' | 'worker/lib/main.js', more: Record<string, string>) {
    const env = {
      ...{ PATH: process.env['PATH'], DATABASE_URL: stack.databaseUrl, NTAA_DATA_DIR: join(folder, 'data') },
      ...{ PORT: '0', NTAA_API_KEY: KEY, NTAA_THREADS: '1', NTAA_ENGINE: 'wasm' },
      ...more,
    };
    const script = new URL(`../apps/${app}`, import.meta.url);
    this.#child = fork(script, [LAUNCHED], { env, execArgv: [], stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    this.#child.stdout!.setEncoding('utf8').on('data', (text: string) => (this.said += text));
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => (this.said += text));
    processes.push(this);
  }
  async ready(): Promise<this> {
    const [message] = (await Promise.race([
      once(this.#child, 'message'),
      once(this.#child, 'exit').then(() => [{ type: 'failed', message: this.said }]),
    ])) as [LauncherMessage];
    if (message.type === 'failed') throw new Error(message.message);
    if (message.type === 'listening') this.url = message.url;
    return this;
  }
  /** Its exit code: not 0 where it had to be cut short, ten seconds after it was asked to end. */
  async stop(): Promise<number | null> {
    if (this.#child.exitCode !== null) return this.#child.exitCode;
    this.#child.kill('SIGTERM');
    return (await once(this.#child, 'close'))[0] as number | null;
  }
  kill(): void {
    this.#child.kill('SIGKILL');
  }
  lines(): Record<string, unknown>[] {
    const json = this.said.split('\n').filter((line) => line.startsWith('{'));
    return json.map((line) => JSON.parse(line) as Record<string, unknown>);
  }
}
const startApi = (more: Record<string, string>) => new Process('api/lib/server.js', more).ready();
const startWorker = (more: Record<string, string>) => new Process('worker/lib/main.js', more).ready();

const clientOf = (api: Process) => new NtaaClient({ baseUrl: api.url, apiKey: KEY });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ntaa-tracing-'));
  stack = await startStack();
  archive = join(folder, 'pictures.zip');
  const zip = new ZipFile();
  for (let i = 0; i < 400; i++) {
    const rng = new Rng('picture', i);
    const pixels = Buffer.from({ length: 256 } as ArrayLike<number>).map((_, p) =>
      Math.max(0, Math.min(255, (((i % 2 ? p : p >> 4) >> 1) % 2 ? 170 : 90) + 40 * rng.normal())),
    );
    const png = sharp(pixels, { raw: { width: 16, height: 16, channels: 1 } }).png();
    zip.addBuffer(await png.toBuffer(), `${LABELS[i % 2]}/holiday-${i}.png`);
  }
  zip.end();
  await finished(zip.outputStream.pipe(createWriteStream(archive)));
  collector = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = JSON.parse(Buffer.concat(chunks).toString()) as OtlpBody;
      received.push({ headers: { ...request.headers, url: request.url }, body });
      response.setHeader('content-type', 'application/json').end('{}');
    });
  });
  for (const server of [collector, hanging]) await once(server.listen(0, '127.0.0.1'), 'listening');
}, 120_000);
afterAll(async () => {
  for (const process of processes) process.kill();
  for (const server of [collector, hanging]) {
    server.closeAllConnections();
    server.close();
  }
  await stack?.close();
  await rm(folder, { recursive: true, force: true });
});

const addressOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

const request = (dataset: string, more: object = {}) => ({
  ...{ kind: 'adapt', task: 'classification', dataset, seed: 1, baseline: false },
  ...more,
});
async function post(api: Process, body: object, headers: Record<string, string> = {}): Promise<Job> {
  const answer = await fetch(`${api.url}/v1/jobs?dry_run=false`, {
    method: 'POST',
    headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  expect(answer.status).toBe(202);
  return (await answer.json()) as Job;
}
async function settled(api: Process, id: string): Promise<Job> {
  const client = clientOf(api);
  const ended = async () => (await client.job(id)).finished_at !== null;
  await vi.waitUntil(ended, { timeout: 120_000, interval: 200 });
  return client.job(id);
}
async function upload(api: Process): Promise<string> {
  const { id } = await clientOf(api).uploadDataset(archive, { name: 'my holidays' });
  expect((await clientOf(api).datasetSettled(id)).status).toBe('ready');
  return id;
}

it('one trace from the request through every attempt to every stage, over restarts, and nothing of users in it', async () => {
  const more = {
    ...{ OTEL_EXPORTER_OTLP_ENDPOINT: addressOf(collector), OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' },
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
    OTEL_EXPORTER_OTLP_HEADERS: `x-collector=${COLLECTOR_SECRET}`,
  };
  const [first, before] = [await startApi(more), await startWorker(more)];
  const dataset = await upload(first);
  expect(await before.stop()).toBe(0);
  const [traceId, caller] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')];
  const body = request(dataset, { budget: { max_candidates: 6 } });
  const { id } = await post(first, body, { traceparent: `00-${traceId}-${caller}-01` });
  expect(await first.stop()).toBe(0);

  const api = await startApi(more);
  expect(JSON.stringify(await clientOf(api).job(id))).not.toContain(traceId);
  const short = await startWorker(more);
  await fetch(`${api.url}/v1/jobs-of/${encodeURIComponent(LABELS[0]!)}?token=${KEY}`);
  await fetch(`${api.url}/healthz`);
  const trains = async () => (await clientOf(api).job(id)).stage === 'transfer';
  await vi.waitUntil(trains, { timeout: 60_000 });
  expect(await short.stop()).toBe(0);
  const workers = [await startWorker(more), await startWorker(more)];
  expect((await settled(api, id)).status).toBe('succeeded');
  for (const process of [...workers, api]) expect(await process.stop()).toBe(0);

  const ours = spans().filter((span) => span.traceId === traceId);
  const named = (name: string) => ours.filter((span) => span.name === name);
  const [root, ...others] = named('POST /v1/jobs');
  expect(others).toEqual([]);
  expect(root).toMatchObject({
    parentSpanId: caller,
    kind: SERVER,
    attributes: {
      ...{ 'http.request.method': 'POST', 'http.route': '/v1/jobs', 'http.response.status_code': 202 },
      'ntaa.job.id': id,
    },
    of: { 'service.name': 'ntaa-api', 'deployment.environment.name': 'test' },
  });
  const attempts = named('job attempt').sort(
    (a, b) => Number(a.attributes['ntaa.job.attempt']) - Number(b.attributes['ntaa.job.attempt']),
  );
  expect(attempts.map(({ attributes }) => attributes['ntaa.job.outcome'])).toEqual(['queued', 'succeeded']);
  const stages = attempts.map((attempt) => {
    expect(attempt).toMatchObject({
      parentSpanId: root!.spanId,
      attributes: { 'ntaa.job.id': id, 'ntaa.job.kind': 'adapt', 'ntaa.job.task': 'classification' },
      of: { 'service.name': 'ntaa-worker', 'service.instance.id': attempt.attributes['ntaa.worker'] },
    });
    const own = ours
      .filter(({ parentSpanId }) => parentSpanId === attempt.spanId)
      .sort((a, b) => (BigInt(a.startTimeUnixNano) < BigInt(b.startTimeUnixNano) ? -1 : 1));
    // One after the other, within the attempt: to the millisecond, as clocks are read.
    const times = own.flatMap((span) => [span.startTimeUnixNano, span.endTimeUnixNano]);
    const all = [attempt.startTimeUnixNano, ...times, attempt.endTimeUnixNano].map((ns) => Number(ns) / 1e6);
    expect(all.slice(1).every((time, i) => time > all[i]! - 2)).toBe(true);
    return own;
  });
  expect(stages.map((own) => own.map(({ name }) => name))).toEqual([
    ['prepare', 'transfer'],
    ['prepare', 'transfer', 'search', 'finetune', 'evaluate', 'export'],
  ]);
  // What the other worker did for a stage is part of that stage.
  const pieces = named('job piece');
  expect(pieces.length).toBeGreaterThan(0);
  for (const { parentSpanId, attributes } of pieces) {
    expect(stages[1]!.map(({ spanId }) => spanId)).toContain(parentSpanId);
    expect(attributes['ntaa.worker']).not.toBe(attempts[1]!.attributes['ntaa.worker']);
  }
  expect(ours).toHaveLength(1 + attempts.length + stages.flat().length + pieces.length);

  // Other requests are traces of their own, probes are none, and what is not routed has no name.
  const requests = spans().filter(({ kind }) => kind === SERVER);
  expect(requests.filter(({ name }) => name === 'GET /v1/jobs/:id').length).toBeGreaterThan(1);
  const missing = requests.filter(({ name }) => name === 'GET');
  expect(missing.map(({ attributes }) => attributes['http.response.status_code'])).toEqual([404]);
  expect(requests.map(({ name }) => name)).not.toContain('GET /healthz');
  const told = JSON.stringify(received.map(({ body }) => body));
  for (const secret of [KEY, COLLECTOR_SECRET, 'holiday', 'dry_run', 'zebra', ...LABELS])
    expect(told).not.toContain(secret);
  expect(received[0]!.headers).toMatchObject({ url: '/v1/traces', 'x-collector': COLLECTOR_SECRET });

  const logged = processes.flatMap((process) => process.lines());
  const traced = logged.filter((line) => line['trace_id'] === traceId).map(({ msg }) => msg);
  expect(traced).toEqual(
    expect.arrayContaining(['request completed', 'job attempt started', 'job attempt ended']),
  );
  expect(processes.map(({ said }) => said).join()).not.toContain(COLLECTOR_SECRET);
}, 240_000);

it.each([
  ['refuses', () => 'http://127.0.0.1:9'],
  ['hangs', () => addressOf(hanging)],
])(
  'a collector that %s: jobs succeed, processes end by themselves, and warn once a minute',
  async (_, address) => {
    const quick = { OTEL_EXPORTER_OTLP_TIMEOUT: '500', OTEL_BSP_SCHEDULE_DELAY: '100' };
    const more = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${address()}/v1/traces`, ...quick };
    const both = await Promise.all([startApi(more), startWorker(more)]);
    const [api] = both;
    const linear = { paradigm: 'linear-evaluation', budget: { max_candidates: 2 } };
    const job = await settled(api, (await post(api, request(await upload(api), linear))).id);
    expect(job.status, JSON.stringify(job.error)).toBe('succeeded');
    // Spans of its last second are still to be sent.
    expect(await Promise.all(both.map((process) => process.stop()))).toEqual([0, 0]);
    for (const process of both) {
      const warnings = process.lines().filter(({ msg }) => String(msg).startsWith('Tracing: '));
      expect(new Set(warnings.map(({ level }) => level))).toEqual(new Set([40]));
      const times = warnings.map(({ time }) => Number(time));
      expect(times.slice(1).every((time, i) => time - times[i]! >= 59_000)).toBe(true);
    }
  },
  120_000,
);

/** Scripts that a process and its children had loaded when they ended. */
async function loaded(coverage: string): Promise<string[]> {
  const files = await readdir(coverage);
  const parsed = await Promise.all(
    files.map(
      async (file) =>
        JSON.parse(await readFile(join(coverage, file), 'utf8')) as { result: { url: string }[] },
    ),
  );
  return parsed.flatMap(({ result }) => result.map(({ url }) => url));
}

it('nothing of OpenTelemetry is loaded unless spans are exported', async () => {
  const on = { OTEL_EXPORTER_OTLP_ENDPOINT: addressOf(collector), OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' };
  const off = { ...on, OTEL_SDK_DISABLED: 'true' };
  const found: boolean[] = [];
  for (const [name, more] of Object.entries({ on, none: {}, off })) {
    const exported = [startApi, startWorker].map(async (start) => {
      const coverage = join(folder, `${name}-${start.name}`);
      const process = await start({ ...more, NODE_V8_COVERAGE: coverage });
      expect(await process.stop()).toBe(0);
      const urls = await loaded(coverage);
      expect(urls.some((url) => url.includes('/packages/tracing/lib/index.js'))).toBe(true);
      // Of the metrics' library, too, there is the interface; the SDK is all the rest.
      return urls.some((url) => /\/@opentelemetry\/(?!api\/)/.test(url));
    });
    found.push(...(await Promise.all(exported)));
  }
  expect(found).toEqual([true, true, false, false, false, false]);
}, 120_000);
