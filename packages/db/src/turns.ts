/**
 * Whose turn it is. Of the tenants whose jobs wait, the one with the fewest jobs running; of equals, the one served longest ago: a
 * thousand jobs of one tenant do not keep another's only job waiting for longer than a job takes. Of a tenant's jobs, the one of
 * highest priority, then the oldest.
 */
import type { Tx } from './client.js';
import type { Queries } from './direct.js';

/** Of transactions that claim jobs, one at a time: each sees what those before it have taken. */
const LOCK = 72707370;

/** The job whose turn it is, or null. Others who ask wait until the transaction ends. */
export async function nextJob(tx: Tx): Promise<string | null> {
  await tx.$queryRaw`SELECT 1 AS locked FROM (SELECT pg_advisory_xact_lock(${LOCK}::bigint)) AS l`;
  // One that is being stopped has only to finish, and somebody waits for it.
  const [stopping] = await tx.$queryRaw<{ id: string }[]>`
    SELECT id FROM jobs WHERE status = 'stopping' AND lease_token IS NULL AND (failures = 0 OR queued_at <= now())
    ORDER BY queued_at LIMIT 1`;
  if (stopping) return stopping.id;
  const [next] = await tx.$queryRaw<{ id: string }[]>`
    SELECT j.id FROM (SELECT DISTINCT tenant_id FROM jobs WHERE status = 'queued') AS w
      LEFT JOIN turns t ON t.tenant_id = w.tenant_id
      CROSS JOIN LATERAL (
        SELECT count(*) AS running FROM jobs WHERE tenant_id = w.tenant_id AND lease_token IS NOT NULL
      ) AS r
      CROSS JOIN LATERAL (
        SELECT id, queued_at FROM jobs
        WHERE tenant_id = w.tenant_id AND status = 'queued' AND (failures = 0 OR queued_at <= now())
        ORDER BY priority DESC, queued_at, id LIMIT 1
      ) AS j
    ORDER BY r.running, t.served_at NULLS FIRST, j.queued_at, j.id LIMIT 1`;
  return next?.id ?? null;
}

/** A job of the tenant was taken. */
export async function served(tx: Tx, tenant: string): Promise<void> {
  await tx.$executeRaw`
    INSERT INTO turns (tenant_id, served_at) VALUES (${tenant}, clock_timestamp())
    ON CONFLICT (tenant_id) DO UPDATE SET served_at = EXCLUDED.served_at`;
}

/** Places of waiting jobs, from 1, if tenants take turns from now on; by id. */
export async function queuePositions(db: Queries, ids: readonly string[]): Promise<Map<string, number>> {
  if (ids.length === 0) return new Map();
  const rows = await db.$queryRaw<{ id: string; position: number }[]>`
    SELECT id, position::int FROM (
      SELECT id, row_number() OVER (ORDER BY turn, queued_at, id) AS position FROM (
        SELECT id, queued_at, row_number() OVER (PARTITION BY tenant_id ORDER BY priority DESC, queued_at, id) AS turn
        FROM jobs WHERE status = 'queued'
      ) AS own
    ) AS queue WHERE id = ANY(${ids}::text[])`;
  return new Map(rows.map(({ id, position }) => [id, position]));
}

/** A queue longer than this is counted once a second at most, and otherwise by what this server adds to it. */
const LONG = 500;

const sum = (numbers: Iterable<number>): number => [...numbers].reduce((total, n) => total + n, 0);

/** Tells the places of jobs as they are put into the queue. */
export class QueueEnd {
  /** Waiting jobs by tenant and priority. */
  #waiting = new Map<string, Map<number, number>>();
  #length = 0;
  #countedAt = 0;

  /** Of a job that is about to be put into the queue. */
  async place(db: Queries, tenant: string, priority: number): Promise<number> {
    if (this.#length <= LONG || Date.now() - this.#countedAt >= 1000) await this.#count(db);
    this.#add(tenant, priority, 1);
    const own = this.#waiting.get(tenant) ?? new Map<number, number>();
    // Of its own tenant's, those of lower priority come after it; of every other's, as many come before as of its own.
    const before = sum([...own].filter(([of]) => of >= priority).map(([, jobs]) => jobs));
    const others = [...this.#waiting].filter(([other]) => other !== tenant);
    return before + sum(others.map(([, jobs]) => Math.min(before, sum(jobs.values()))));
  }

  #add(tenant: string, priority: number, jobs: number): void {
    const own = this.#waiting.get(tenant) ?? new Map<number, number>();
    this.#waiting.set(tenant, own.set(priority, (own.get(priority) ?? 0) + jobs));
    this.#length += jobs;
  }

  async #count(db: Queries): Promise<void> {
    // Others need not count meanwhile.
    this.#countedAt = Date.now();
    // Times are kept in whole milliseconds: the latest may be rounded up.
    const rows = await db.$queryRaw<{ tenant: string; priority: number; jobs: number }[]>`
      SELECT tenant_id AS tenant, priority, count(*)::int AS jobs FROM jobs
      WHERE status = 'queued' AND queued_at <= now() + interval '1 millisecond' GROUP BY tenant_id, priority`;
    this.#waiting = new Map();
    this.#length = 0;
    for (const { tenant, priority, jobs } of rows) this.#add(tenant, priority, jobs);
    this.#countedAt = Date.now();
  }
}
