import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { openTracing } from './index.js';

const received: { headers: IncomingHttpHeaders; body: string }[] = [];
const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    received.push({ headers: request.headers, body: Buffer.concat(chunks).toString('latin1') });
    response.end();
  });
});
const service = { name: 'test', instance: 'here' };
const none = (): void => undefined;

beforeAll(async () => {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', `http://127.0.0.1:${port}`);
});
afterAll(() => {
  vi.unstubAllEnvs();
  server.close();
});

it('is nothing where nothing is exported', async () => {
  expect(await openTracing(null, service, none)).toBeNull();
});

it('sends protobuf, unless JSON is asked for, with the names that the operator gave', async () => {
  vi.stubEnv('OTEL_SERVICE_NAME', 'my-own-name');
  const tracing = await openTracing('http/protobuf', service, none);
  tracing!.start('work', { parent: null }).end();
  await tracing!.close();
  expect(received.pop()).toMatchObject({
    headers: { 'content-type': 'application/x-protobuf' },
    body: expect.stringMatching(/my-own-name[^]*work/),
  });
});

it('belongs to what it is told, and to nothing where that is not well-formed', async () => {
  const tracing = await openTracing('http/json', service, none);
  const parent = `00-${'ab'.repeat(16)}-${'cd'.repeat(8)}-01`;
  const one = tracing!.start('one', { parent });
  expect(one.traceparent).toMatch(new RegExp(`^00-${'ab'.repeat(16)}-[0-9a-f]{16}-01$`));
  // What is not sampled where it begins is not sampled anywhere.
  const quiet = tracing!.start('quiet', { parent: parent.replace(/01$/, '00') });
  expect(quiet.traceparent).toMatch(/-00$/);
  quiet.end();
  for (const broken of [
    '',
    'x',
    `00-${'0'.repeat(32)}-${'cd'.repeat(8)}-01`,
    `${parent}-more`,
    'a'.repeat(9999),
  ])
    expect(tracing!.start('broken', { parent: broken }).traceId).not.toBe('ab'.repeat(16));
  one.end('on-purpose');
  await tracing!.close();
  const { body } = received.pop()!;
  expect(body).toContain('on-purpose');
  expect(body).not.toContain('quiet');
});

it('keeps the sampler that the operator names', async () => {
  vi.stubEnv('OTEL_TRACES_SAMPLER', 'always_off');
  const tracing = await openTracing('http/json', service, none);
  expect(tracing!.start('work', { parent: null }).traceparent).toMatch(/-00$/);
  await tracing!.close();
});
