/** Real Postgres for tests: started once a process in a temporary folder, a fresh database for every caller. */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '@ntaa/db';
import pg from 'pg';

export interface TestStack {
  readonly databaseUrl: string;
  close(): Promise<void>;
}
interface Server {
  readonly url: string;
  stop(): Promise<void>;
}
export type PostgresKind = 'embedded' | 'installed';

const servers = new Map<PostgresKind, { users: number; server: Promise<Server> }>();

/** The newest Postgres installed where Debian puts them; null: none. */
export function installedPostgres(): string | null {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(b) - Number(a)) : [];
  const found = versions.find((version) => existsSync(join(root, version, 'bin/initdb')));
  return found === undefined ? null : join(root, found);
}

/** An empty database on a server of this process; the server ends with its last user. */
export async function startStack(kind: PostgresKind = 'embedded'): Promise<TestStack> {
  const entry = servers.get(kind) ?? { users: 0, server: start(kind) };
  servers.set(kind, entry);
  entry.users++;
  const { url } = await entry.server;
  const name = `test_${randomBytes(6).toString('hex')}`;
  await query(url, `CREATE DATABASE ${name}`);
  return {
    databaseUrl: url.replace(/[^/]*$/, name),
    async close() {
      if (--entry.users > 0) return query(url, `DROP DATABASE ${name} WITH (FORCE)`);
      servers.delete(kind);
      await (await entry.server).stop();
    },
  };
}

async function start(kind: PostgresKind): Promise<Server> {
  const dataDir = await mkdtemp(join(tmpdir(), 'ntaa-postgres-'));
  const installation = kind === 'installed' ? installedPostgres() : null;
  const server = await startEmbeddedPostgres({
    dataDir,
    ephemeral: true,
    ...(installation ? { installation } : {}),
  });
  return {
    url: server.url,
    async stop() {
      await server.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

async function query(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
