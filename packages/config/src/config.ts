import { isIP } from 'node:net';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { Reader, type Environment } from './reader.js';

export const ENGINES = ['auto', 'tensorflow-gpu', 'tensorflow', 'wasm'] as const;
export type EngineChoice = (typeof ENGINES)[number];
/** How spans of traces can be encoded. */
const TRACE_FORMATS = ['http/protobuf', 'http/json'] as const;
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Where objects are kept when S3_BUCKET is set. */
export interface S3Config {
  readonly bucket: string;
  /** S3-compatible server, path-style addressing; null: AWS itself. */
  readonly endpoint: string | null;
  readonly region: string;
  /** Keys from AWS_ACCESS_KEY_ID and its companions; null: the SDK's own chain (profile, instance role, …). */
  readonly credentials: {
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly sessionToken?: string;
  } | null;
}

/** The service's whole configuration. Absolute paths; null means unset. */
export interface Config {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Bootstrap admin key; null: one is made at first start. */
  readonly apiKey: string | null;
  readonly dataDir: string;
  /** Local worker processes; default: one a core. 0: none, workers elsewhere do the work. */
  readonly workers: number;
  readonly engine: EngineChoice;
  /** Of a trainer on the embedded engine; no result depends on it. Default: two, or one where there is one core. */
  readonly threads: number;
  /** null: embedded Postgres under dataDir. */
  readonly databaseUrl: string | null;
  /** null: the queue runs on Postgres. */
  readonly redisUrl: string | null;
  /** null: files under dataDir. */
  readonly s3: S3Config | null;
  readonly logLevel: LogLevel;
  /** Largest request body, bytes; default 8 GiB. */
  readonly maxUploadBytes: number;
  /** Host names, addresses and ranges (CIDR) that webhooks may lead to although they are not public. */
  readonly webhookAllow: readonly string[];
  /** Addresses and ranges of proxies, whose X-Forwarded-* headers are believed. */
  readonly trustedProxies: readonly string[];
  /** How spans are exported; where to, and the rest of it, OpenTelemetry's own variables say. null: not at all. */
  readonly tracing: (typeof TRACE_FORMATS)[number] | null;
}

/** Bad configuration. The message lists every problem: variable, value, remedy. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(`The configuration is not usable:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/** Reads the whole configuration from environment variables; throws ConfigError naming everything that is wrong. */
export function parseConfig(env: Environment): Config {
  const read = new Reader(env);
  const config: Config = {
    host: read.text('HOST') ?? '127.0.0.1',
    port: read.integer('PORT', 3000, 0, 65535),
    apiKey: read.secret('NTAA_API_KEY', 16),
    dataDir: resolve(read.text('NTAA_DATA_DIR') ?? '.ntaa'),
    workers: read.integer('NTAA_WORKERS', availableParallelism(), 0, 256),
    engine: read.choice('NTAA_ENGINE', ENGINES, 'auto'),
    threads: read.integer('NTAA_THREADS', Math.min(2, availableParallelism()), 1, 64),
    databaseUrl: read.url(
      'DATABASE_URL',
      ['postgres:', 'postgresql:'],
      'postgres://user:password@host:5432/db',
    ),
    redisUrl: read.url('REDIS_URL', ['redis:', 'rediss:'], 'redis://host:6379'),
    s3: readS3(read),
    logLevel: read.choice('NTAA_LOG_LEVEL', LOG_LEVELS, 'info'),
    maxUploadBytes: read.integer('NTAA_MAX_UPLOAD_BYTES', 8 * 2 ** 30, 2 ** 20, Number.MAX_SAFE_INTEGER),
    webhookAllow: read.list(
      'NTAA_WEBHOOK_ALLOW',
      (entry) => isRange(entry) || HOST_NAME.test(entry),
      'give host names, addresses or ranges, as in hooks.internal,10.1.0.0/16',
    ),
    trustedProxies: read.list('NTAA_TRUSTED_PROXIES', isRange, 'give addresses or ranges, as in 10.0.0.0/8'),
    tracing: readTracing(read),
  };
  if (config.databaseUrl && new URL(config.databaseUrl).pathname.length < 2)
    read.problem('DATABASE_URL', 'names no database', 'add one at the end, as in postgres://host:5432/ntaa');
  if (read.problems.length > 0) throw new ConfigError(read.problems);
  return config;
}

const HOST_NAME = /^(?!-)[a-z0-9-]+(\.[a-z0-9-]+)*$/i;

/** An IP address, with a prefix length or without. */
function isRange(text: string): boolean {
  const [address = '', prefix, ...more] = text.split('/');
  const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address) as 0 | 4 | 6];
  return (
    bits > 0 &&
    more.length === 0 &&
    (prefix === undefined || (/^\d+$/.test(prefix) && Number(prefix) <= bits))
  );
}

/** As OpenTelemetry's specification has it, but that without an endpoint nothing is exported. */
function readTracing(read: Reader): Config['tracing'] {
  const example = 'http://collector:4318';
  const endpoints = ['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'OTEL_EXPORTER_OTLP_ENDPOINT'].map((name) =>
    read.url(name, ['http:', 'https:'], example),
  );
  const off =
    /^true$/i.test(read.text('OTEL_SDK_DISABLED') ?? '') || read.text('OTEL_TRACES_EXPORTER') === 'none';
  if (off || endpoints.every((endpoint) => endpoint === null)) return null;
  const own = 'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL';
  const name = read.text(own) === null ? 'OTEL_EXPORTER_OTLP_PROTOCOL' : own;
  return read.choice(name, TRACE_FORMATS, 'http/protobuf');
}

function readS3(read: Reader): S3Config | null {
  const bucket = read.text('S3_BUCKET');
  const endpoint = read.url('S3_ENDPOINT', ['http:', 'https:'], 'http://host:9000');
  const region = read.text('S3_REGION') ?? read.text('AWS_REGION') ?? read.text('AWS_DEFAULT_REGION');
  const credentials = readCredentials(read);
  if (bucket === null) {
    for (const name of ['S3_ENDPOINT', 'S3_REGION'])
      if (read.text(name) !== null)
        read.problem(name, 'is set, but S3_BUCKET is not', 'set S3_BUCKET too, or neither');
    return null;
  }
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket))
    read.problem(
      'S3_BUCKET',
      'is not a bucket name',
      'use 3 to 63 lower-case letters, digits, dots and dashes',
    );
  if (endpoint === null && region === null)
    read.problem('S3_REGION', 'is not set', "set it to the bucket's region, or set S3_ENDPOINT");
  return { bucket, endpoint, region: region ?? 'us-east-1', credentials };
}

function readCredentials(read: Reader): S3Config['credentials'] {
  const accessKeyId = read.text('AWS_ACCESS_KEY_ID');
  const secretAccessKey = read.text('AWS_SECRET_ACCESS_KEY');
  const sessionToken = read.text('AWS_SESSION_TOKEN');
  if (accessKeyId !== null && secretAccessKey !== null)
    return { accessKeyId, secretAccessKey, ...(sessionToken === null ? {} : { sessionToken }) };
  if (accessKeyId !== null)
    read.problem('AWS_SECRET_ACCESS_KEY', 'is not set, but AWS_ACCESS_KEY_ID is', 'set both, or neither');
  if (secretAccessKey !== null)
    read.problem('AWS_ACCESS_KEY_ID', 'is not set, but AWS_SECRET_ACCESS_KEY is', 'set both, or neither');
  return null;
}
