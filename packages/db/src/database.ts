import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { audit } from './audit.js';
import { connect } from './client.js';
import { datasets } from './datasets.js';
import { figures } from './figures.js';
import { garbage } from './garbage.js';
import { idempotency } from './idempotency.js';
import { jobs } from './jobs.js';
import { keys } from './keys.js';
import { leases } from './leases.js';
import { listener } from './listen.js';
import { migrate } from './migrate.js';
import { models } from './models.js';
import { outbox } from './outbox.js';
import { pieces } from './pieces.js';
import { rehearse } from './rehearse.js';
import { supernets } from './supernets.js';
import { tenants } from './tenants.js';
import { uploads } from './uploads.js';
import { webhooks } from './webhooks.js';
import { workers } from './workers.js';
import type { Database, DatabaseOptions } from './types.js';

/**
 * Connects, applies missing migrations, and is ready when it resolves. A server that is not reachable yet is waited
 * for; a refused login or a missing database is an error at once. The caller closes what it opens.
 */
export async function openDatabase(url: string, options: DatabaseOptions = {}): Promise<Database> {
  const client = await connectWithin(url, options.connectTimeoutMs ?? 5000);
  try {
    await migrate(client);
  } finally {
    await client.end();
  }
  const { connections = 10, warm = false } = options;
  const { db, sql } = await connect(url, connections, warm);
  const ears = listener(url, options.onError ?? (() => undefined));
  const database: Database = {
    tenants: tenants(db),
    keys: keys(db, sql),
    audit: audit(db, sql),
    datasets: datasets(db, sql),
    supernets: supernets(db, sql),
    jobs: { ...jobs(db, sql), ...leases(db) },
    pieces: pieces(sql),
    models: models(db),
    uploads: uploads(db),
    webhooks: webhooks(db),
    garbage: garbage(db, sql),
    workers: workers(db),
    idempotency: idempotency(db, sql),
    outbox: outbox(db, sql),
    figures: () => figures(db),
    listen: (on) => ears.listen(on),
    async ping() {
      await db.$queryRaw`SELECT 1`;
    },
    async close() {
      await ears.close();
      await db.$disconnect();
    },
  };
  if (warm) await rehearse(database, connections);
  return database;
}

/** What a server says or the network answers while it is still starting. */
const NOT_YET = new Set(['ECONNREFUSED', 'ECONNRESET', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT', '57P03']);

async function connectWithin(url: string, timeoutMs: number): Promise<pg.Client> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const client = new pg.Client({
      connectionString: url,
      connectionTimeoutMillis: Math.max(timeoutMs, 1000),
    });
    // An error after connecting also rejects the query in progress; without a listener it would end the process.
    client.on('error', () => undefined);
    try {
      await client.connect();
      return client;
    } catch (error) {
      await client.end().catch(() => undefined);
      const code = (error as { code?: string }).code ?? '';
      if (NOT_YET.has(code) && Date.now() < deadline) await sleep(100);
      else
        throw new Error(
          `Postgres at ${withoutPassword(url)} cannot be used: ${(error as Error).message || code}. Check DATABASE_URL.`,
          { cause: error },
        );
    }
  }
}

function withoutPassword(url: string): string {
  const { hostname, port, pathname } = new URL(url);
  return `${hostname}:${port || 5432}${pathname}`;
}
