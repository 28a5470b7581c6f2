/** The servers that the service stands on: opened with one clear message when they cannot be, missed with one warning. */
import type { Config } from './config.js';
import { explainFolder } from './data-folder.js';
import { StartError } from './start.js';

export interface Dependency {
  /** "Redis at 127.0.0.1:6379 (REDIS_URL)"; never a password. */
  readonly title: string;
  /** What is wrong, and what the operator can do about it. */
  explain(error: unknown): { readonly cause: string; readonly remedy: string };
  /** It must be open within so many milliseconds; null: it limits the wait for its server by itself. */
  readonly limit: number | null;
}

/** With the time that a process takes to get there, the operator has an answer within ten seconds. */
const LIMIT = 5000;
/** Trouble within so many milliseconds of the last belongs to the same outage: clients try again every few seconds. */
const OUTAGE_OVER = 30_000;

/**
 * Resolves with what `open` opened. When that fails or takes too long, rejects with a StartError that names variable,
 * address, cause and remedy. `open` is handed the function to tell of connection trouble: while opening this becomes
 * the cause, and later on one warning an outage.
 */
export async function openDependency<T>(
  dependency: Dependency,
  warn: (message: string) => void,
  open: (onError: (error: Error) => void) => Promise<T>,
): Promise<T> {
  const { title, limit } = dependency;
  let opened = false;
  let trouble: Error | undefined;
  let lastAt = -Infinity;
  const onError = (error: Error): void => {
    trouble = error;
    if (!opened) return;
    const fresh = Date.now() - lastAt > OUTAGE_OVER;
    lastAt = Date.now();
    if (fresh)
      warn(`${title} is lost: ${dependency.explain(error).cause}. Connecting again until it is back`);
  };
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    if (limit !== null) timer = setTimeout(() => reject(new Error('timeout')), limit);
  });
  try {
    const result = await Promise.race([open(onError), late]);
    opened = true;
    return result;
  } catch (error) {
    // A client that gave up says only that it did; what it met on the way says why.
    const { cause, remedy } = dependency.explain(trouble ?? error);
    throw new StartError(`${title} cannot be used: ${cause}. ${remedy}.`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

export function databaseOf({ databaseUrl }: { readonly databaseUrl: string }): Dependency {
  // Waits a while for a server that is still starting, and for another process that is migrating the database.
  return server('Postgres', addressOf(databaseUrl, 5432), 'DATABASE_URL', null);
}

/** The queue's server: Redis, or the database. */
export function queueOf(config: {
  readonly redisUrl: string | null;
  readonly databaseUrl: string;
}): Dependency {
  if (config.redisUrl === null) return databaseOf(config);
  return server('Redis', addressOf(config.redisUrl, 6379), 'REDIS_URL', LIMIT);
}

/** The object store: a bucket, or a folder under the data folder. */
export function storageOf({ s3, dataDir }: Pick<Config, 's3' | 'dataDir'>): Dependency {
  if (s3 === null) return { title: `NTAA_DATA_DIR ${dataDir}`, limit: null, explain: explainFolder };
  const { bucket, endpoint, region } = s3;
  if (endpoint === null)
    return server(`S3 bucket ${bucket}`, `s3.${region}.amazonaws.com:443`, 'S3_REGION', LIMIT);
  const address = addressOf(endpoint, endpoint.startsWith('https:') ? 443 : 80);
  return server(`S3 bucket ${bucket}`, address, 'S3_ENDPOINT', LIMIT);
}

function server(name: string, address: string, variable: string, limit: number | null): Dependency {
  return {
    title: `${name} at ${address} (${variable})`,
    limit,
    explain(error) {
      const root = rootOf(error);
      const [, cause, remedy] = KNOWN.find(([pattern]) => pattern.test(printOf(root))) ?? [
        null,
        root.message.trim().split('\n')[0]?.replace(/\.+$/, '') || 'it gives no reason',
        'Correct VARIABLE, or put the server right',
      ];
      return { cause, remedy: remedy.replace('VARIABLE', variable) };
    },
  };
}

/** What the clients' errors mean and what helps; the first that matches. */
const KNOWN: readonly (readonly [pattern: RegExp, cause: string, remedy: string])[] = [
  [/ECONNREFUSED/, 'nothing listens there', 'Start the server, or correct VARIABLE'],
  [/ENOTFOUND|EAI_AGAIN/, 'that host is not known', 'Correct the host in VARIABLE'],
  [
    /ECONNRESET|EPIPE|Connection terminated|MaxRetries/,
    'it closes the connection',
    'See that VARIABLE names the right server',
  ],
  [/wrong version number/, 'it does not speak TLS', 'Correct the protocol in VARIABLE'],
  [
    /ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|time(d )?out/i,
    'it does not answer',
    'Correct VARIABLE, or let this machine reach it',
  ],
  [
    /28P01|28000|password must be|WRONGPASS|NOAUTH|invalid password|AUTH.* called without/i,
    'it refuses the user or the password',
    'Correct them in VARIABLE',
  ],
  [
    /HTTP 404/,
    'there is no such bucket for this access key',
    'Create it, or correct S3_BUCKET or AWS_ACCESS_KEY_ID',
  ],
  [
    /HTTP 40[13]/,
    'it refuses the access key',
    'Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what the key may do with the bucket',
  ],
  [/HTTP (301|400)/, 'it refuses the request, as servers of another region do', 'Correct S3_REGION'],
  [/HTTP 5/, 'it answers with a server error', 'Put the server right, or correct VARIABLE'],
  [
    /CredentialsProvider/,
    'no access key is given',
    'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role',
  ],
];

/** The error at the end of the chain of causes. */
function rootOf(error: unknown): Error {
  const root = error instanceof Error ? error : new Error(String(error));
  return root.cause === undefined ? root : rootOf(root.cause);
}

/** Everything by which the kinds of errors are told apart: code of Node or SQL, name, status of S3, message. */
function printOf(error: Error): string {
  const { code, $metadata } = error as { code?: string; $metadata?: { httpStatusCode?: number } };
  return `${code} ${error.name} HTTP ${$metadata?.httpStatusCode} ${error.message}`;
}

function addressOf(url: string, port: number): string {
  const { hostname, port: given } = new URL(url);
  return `${hostname}:${given || port}`;
}
