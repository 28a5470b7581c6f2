/** What the hostile corpus is thrown at: the service as `npm start` runs it, with everything it says kept. */
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { request, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { openDatabase, type Database } from '@ntaa/db';
import { openStore } from '@ntaa/storage';
import pg from 'pg';
import { processesOf, running, spawnUp, stop } from '../setup/service.js';
import { startStack } from '../setup/stack.js';

const AWS_SECRET = 'hostile-aws-secret-key';
export const ADMIN = 'ntaa_hostile-corpus-admin-key';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Record<string, never> & {
    code?: string;
    id?: string;
    status?: string;
    errors?: { code: string }[];
  };
  readonly text: string;
}
export interface Ask {
  readonly key?: string | null;
  readonly headers?: OutgoingHttpHeaders;
  /** Sent as JSON, unless it is bytes. */
  readonly body?: unknown;
  /** A loopback address: who guesses keys must not shut the others out. */
  readonly from?: string;
}

export class Target {
  readonly #url: URL;
  /** Everything that was secret so far. */
  readonly secrets = new Set([ADMIN, AWS_SECRET]);
  /** Bodies of all answers that were refusals. */
  readonly refusals: string[] = [];
  readonly folder: string;
  readonly db: Database;
  readonly sql: pg.Pool;
  /** Everything that the service's processes wrote. */
  readonly said: () => string;
  readonly stop: () => Promise<void>;

  constructor(url: string, parts: Pick<Target, 'folder' | 'db' | 'sql' | 'said' | 'stop'>) {
    this.#url = new URL(url);
    this.folder = parts.folder;
    this.db = parts.db;
    this.sql = parts.sql;
    this.said = parts.said;
    this.stop = parts.stop;
  }

  /** Asks, and asks again where the answer is that a key asks too often. */
  async ask(method: string, path: string, { key = ADMIN, headers, body, from }: Ask = {}): Promise<Answer> {
    const bytes = body === undefined || Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    for (;;) {
      const sent = request(this.#url, {
        ...{ method, path, agent: false, localAddress: from },
        headers: {
          ...(key === null ? {} : { authorization: `Bearer ${key}` }),
          ...(bytes ? { 'content-type': 'application/json', 'content-length': bytes.length } : {}),
          ...headers,
        },
      });
      sent.end(bytes);
      // The answer may come before all was sent.
      sent.on('error', () => undefined);
      const [response] = (await once(sent, 'response')) as [import('node:http').IncomingMessage];
      const text = (await buffer(response)).toString();
      const status = response.statusCode!;
      const json = /json/.test(response.headers['content-type'] ?? '') && text !== '';
      const answer = {
        status,
        headers: response.headers,
        text,
        body: json ? JSON.parse(text) : {},
      } as Answer;
      if (status >= 400) this.refusals.push(text);
      const { secret, parts = [] } = answer.body as { secret?: string; parts?: { url: string }[] };
      if (secret) this.secrets.add(secret);
      for (const { url } of parts) this.secrets.add(new URL(url).searchParams.get('token')!);
      if (status !== 429 || !answer.text.includes('requests a second')) return answer;
      await sleep(300);
    }
  }

  /** Sends a file as a dataset's archive. */
  upload(
    file: Buffer,
    { name = 'x.zip', format, key }: { name?: string; format?: string; key?: string } = {},
  ) {
    const fields = format === undefined ? [] : [part('format', Buffer.from(format))];
    return this.form('/v1/datasets', [...fields, part('file', file, name)], key);
  }
  form(path: string, parts: readonly Buffer[], key = ADMIN): Promise<Answer> {
    const body = Buffer.concat([...parts, Buffer.from(`--${BOUNDARY}--\r\n`)]);
    const headers = { 'content-type': `multipart/form-data; boundary=${BOUNDARY}` };
    return this.ask('POST', path, { body, headers, key });
  }

  /** Bytes as they are, on a connection of their own. Resolves with all that was answered, when it was closed. */
  async raw(
    chunks: readonly (string | Buffer)[],
    { every = 0, hangUp = false, patience = 45_000 } = {},
  ): Promise<string> {
    const socket = connect(Number(this.#url.port), this.#url.hostname);
    const timer = setTimeout(() => socket.destroy(), patience);
    let text = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk));
    socket.on('error', () => undefined);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    for (const chunk of chunks) {
      if (socket.destroyed) break;
      socket.write(chunk);
      if (every > 0) await sleep(every);
    }
    if (hangUp) socket.resetAndDestroy();
    await closed;
    clearTimeout(timer);
    return text;
  }
  /** Head of a request with a key, to be sent raw. */
  head(line: string, ...headers: string[]): string {
    return [
      `${line} HTTP/1.1`,
      `Host: ${this.#url.host}`,
      `Authorization: Bearer ${ADMIN}`,
      ...headers,
      '',
      '',
    ].join('\r\n');
  }

  async settled(id: string, key = ADMIN): Promise<Answer> {
    for (;;) {
      const answer = await this.ask('GET', `/v1/datasets/${id}`, { key });
      if (answer.status !== 200 || answer.body.status !== 'validating') return answer;
      await sleep(150);
    }
  }

  async alive(): Promise<boolean> {
    return (await this.ask('GET', '/readyz', { key: null })).status === 200;
  }

  /** Files below a folder of the data folder, sorted. */
  async files(below: string): Promise<string[]> {
    const root = join(this.folder, below);
    const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => relative(root, join(entry.parentPath, entry.name)))
      .sort();
  }

  /** Puts an object where a worker would have put it. */
  async put(name: string, bytes: Buffer): Promise<{ key: string; size: number; sha256: string }> {
    const store = await openStore({ dataDir: this.folder, s3: null });
    const key = `models/test/${name}`;
    return { key, ...(await store.put(key, bytes)) };
  }

  /** Largest resident set that the API has had, bytes. */
  async peakMemory(): Promise<number> {
    const api = (await processesOf(this.folder)).find(({ args }) => args.includes('api/lib/server.js'));
    const status = await readFile(`/proc/${api!.pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) * 1024;
  }
}

const BOUNDARY = 'hostile-boundary';
/** A part of a form; a file when it has a name. */
export function part(name: string, value: Buffer, filename?: string): Buffer {
  const file = filename === undefined ? '' : `; filename="${filename}"`;
  const head = `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"${file}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), value, Buffer.from('\r\n')]);
}

/** Its own Postgres is the tests', so that they can look into it. */
export async function startTarget(settings: Record<string, string> = {}): Promise<Target> {
  const folder = await mkdtemp(join(tmpdir(), 'ntaa-hostile-'));
  const stack = await startStack();
  const launcher = spawnUp(folder, {
    DATABASE_URL: stack.databaseUrl,
    NTAA_API_KEY: ADMIN,
    AWS_ACCESS_KEY_ID: 'hostile',
    AWS_SECRET_ACCESS_KEY: AWS_SECRET,
    NTAA_LOG_LEVEL: 'trace',
    NTAA_WORKERS: '2',
    NTAA_ENGINE: 'wasm',
    ...settings,
  });
  let said = '';
  for (const stream of [launcher.stdout!, launcher.stderr!])
    stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const shown = await running(launcher);
  const db = await openDatabase(stack.databaseUrl, { connections: 2 });
  const sql = new pg.Pool({ connectionString: stack.databaseUrl, max: 2 });
  // The database stops at the end: a connection that is just closing hears of it, and without listeners nobody else does.
  sql.on('error', () => undefined);
  sql.on('connect', (client) => client.on('error', () => undefined));
  const target = new Target(shown['API']!.replace(/\/v1$/, ''), {
    ...{ folder, db, sql, said: () => said },
    async stop() {
      await stop({ launcher });
      await db.close();
      await sql.end();
      await stack.close();
      await rm(folder, { recursive: true, force: true });
    },
  });
  target.secrets.add(new URL(stack.databaseUrl).password);
  return target;
}
