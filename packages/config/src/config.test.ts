import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { ConfigError, parseConfig } from './index.js';

function problemsOf(env: Record<string, string>): readonly string[] {
  try {
    parseConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

test('nothing set: everything embedded, on this machine only', () => {
  const config = parseConfig({});
  expect(config).toMatchObject({
    host: '127.0.0.1',
    port: 3000,
    apiKey: null,
    dataDir: resolve('.ntaa'),
    engine: 'auto',
    databaseUrl: null,
    redisUrl: null,
    s3: null,
    logLevel: 'info',
  });
  expect(config.workers).toBeGreaterThanOrEqual(1);
});

test('empty and blank variables count as unset', () => {
  const blank = Object.fromEntries(
    [
      'HOST',
      'PORT',
      'NTAA_API_KEY',
      'DATABASE_URL',
      'REDIS_URL',
      'S3_BUCKET',
      'S3_ENDPOINT',
      'NTAA_ENGINE',
    ].map((name, i) => [name, i % 2 ? '' : '  ']),
  );
  expect(parseConfig(blank)).toEqual(parseConfig({}));
});

test('everything set', () => {
  const config = parseConfig({
    HOST: '0.0.0.0',
    PORT: '0',
    NTAA_API_KEY: 'a-long-enough-secret',
    NTAA_DATA_DIR: '/var/lib/ntaa',
    NTAA_WORKERS: '0',
    NTAA_ENGINE: 'wasm',
    DATABASE_URL: 'postgresql://u:p@db/ntaa',
    REDIS_URL: 'rediss://cache:6380',
    S3_BUCKET: 'models',
    S3_ENDPOINT: 'http://127.0.0.1:9000',
    AWS_REGION: 'eu-central-1',
    AWS_ACCESS_KEY_ID: 'id',
    AWS_SECRET_ACCESS_KEY: 'secret',
    NTAA_LOG_LEVEL: 'debug',
    NTAA_MAX_UPLOAD_BYTES: '1048576',
    NTAA_WEBHOOK_ALLOW: 'hooks.internal, 10.0.0.0/8,::1',
    NTAA_TRUSTED_PROXIES: '192.168.0.1',
  });
  expect(config).toMatchObject({
    host: '0.0.0.0',
    port: 0,
    workers: 0,
    engine: 'wasm',
    dataDir: '/var/lib/ntaa',
    redisUrl: 'rediss://cache:6380',
    maxUploadBytes: 1048576,
    webhookAllow: ['hooks.internal', '10.0.0.0/8', '::1'],
    trustedProxies: ['192.168.0.1'],
    s3: {
      bucket: 'models',
      endpoint: 'http://127.0.0.1:9000',
      region: 'eu-central-1',
      credentials: { accessKeyId: 'id', secretAccessKey: 'secret' },
    },
  });
});

test('every problem is listed at once, with variable, value and remedy', () => {
  const problems = problemsOf({
    PORT: '99999',
    NTAA_WORKERS: '1.5',
    NTAA_ENGINE: 'cuda',
    DATABASE_URL: 'mysql://db/ntaa',
    REDIS_URL: 'cache:6379',
    S3_ENDPOINT: 'http://127.0.0.1:9000',
    NTAA_LOG_LEVEL: 'loud',
  });
  expect(problems).toHaveLength(7);
  expect(problems[0]).toBe(
    'PORT="99999" is not usable: give a whole number from 0 to 65535, or leave it unset (3000)',
  );
  expect(problems.join('\n')).toMatch(/NTAA_ENGINE="cuda".*wasm/);
  expect(problems.join('\n')).toMatch(/DATABASE_URL="mysql.*postgres:\/\//);
  expect(problems.join('\n')).toMatch(/S3_ENDPOINT.*set S3_BUCKET/);
});

test.each([
  [{ DATABASE_URL: 'postgres://host' }, /names no database/],
  [{ DATABASE_URL: 'host/db' }, /DATABASE_URL/],
  [{ S3_BUCKET: 'Not A Bucket', S3_REGION: 'x' }, /S3_BUCKET/],
  [{ S3_BUCKET: 'models' }, /S3_REGION is not set/],
  [{ AWS_ACCESS_KEY_ID: 'id' }, /AWS_SECRET_ACCESS_KEY is not set/],
  [{ AWS_SECRET_ACCESS_KEY: 's' }, /AWS_ACCESS_KEY_ID is not set/],
  [{ NTAA_WEBHOOK_ALLOW: 'https://hooks.internal' }, /NTAA_WEBHOOK_ALLOW/],
  [{ NTAA_WEBHOOK_ALLOW: 'hooks.internal, 10.0.0.0/33' }, /NTAA_WEBHOOK_ALLOW/],
  [{ NTAA_TRUSTED_PROXIES: 'proxy' }, /NTAA_TRUSTED_PROXIES/],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318' }, /OTEL_EXPORTER_OTLP_ENDPOINT/],
  [
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector', OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' },
    /http\/protobuf/,
  ],
  [{ PORT: '-1' }, /PORT/],
  [{ PORT: '0x10' }, /PORT/],
])('%j', (env, message) => {
  expect(problemsOf(env)).toEqual([expect.stringMatching(message)]);
});

const at = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' };
test.each([
  [{}, null],
  [{ OTEL_SERVICE_NAME: 'x', OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }, null],
  [at, 'http/protobuf'],
  [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://collector/v1/traces' }, 'http/protobuf'],
  [{ ...at, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }, 'http/json'],
  [
    { ...at, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc', OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/json' },
    'http/json',
  ],
  [{ ...at, OTEL_SDK_DISABLED: 'true' }, null],
  [{ ...at, OTEL_TRACES_EXPORTER: 'none' }, null],
])('spans are exported where there is somewhere to: %j', (env, tracing) => {
  expect(parseConfig(env).tracing).toBe(tracing);
});

test('secrets are never shown', () => {
  const message = problemsOf({
    NTAA_API_KEY: 'short',
    // Not percent-encoded, so that no parser finds it.
    DATABASE_URL: 'postgres://user:hun/ter@hunter2@db/x',
    REDIS_URL: 'http://:hunter3@cache',
  }).join('\n');
  expect(message).toMatch(/NTAA_API_KEY is not usable/);
  expect(message).not.toMatch(/short|hun|ter2/);
});

test('secrets in files', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ntaa-secrets-'));
  const file = join(folder, 'url');
  await writeFile(file, 'postgres://u:p@db/ntaa\n');
  expect(parseConfig({ DATABASE_URL_FILE: file }).databaseUrl).toBe('postgres://u:p@db/ntaa');
  // The variable itself comes first.
  expect(parseConfig({ DATABASE_URL_FILE: file, DATABASE_URL: 'postgres://other/x' }).databaseUrl).toBe(
    'postgres://other/x',
  );
  await writeFile(file, 'short');
  expect(problemsOf({ NTAA_API_KEY_FILE: file })).toEqual([
    expect.stringMatching(/^NTAA_API_KEY is not usable/),
  ]);
  await rm(folder, { recursive: true });
  expect(problemsOf({ REDIS_URL_FILE: file })).toEqual([
    expect.stringMatching(/^REDIS_URL_FILE=".*" cannot be read \(ENOENT\): name a file/),
  ]);
});
