/** What tenants use, and whether there is room for more. Checked in the transaction that takes it. */
import { NO_QUOTAS, type Quotas, type Usage } from '@ntaa/contracts';
import type { Queries } from './direct.js';
import { QuotaExceeded } from './types.js';

type Countable = Exclude<keyof Quotas, 'requests_per_second'>;

/** As stored: what is left out is not limited. */
export const toQuotas = (limits: unknown): Quotas => ({
  ...NO_QUOTAS,
  ...(limits as Partial<Quotas> | null),
});

const USED: Readonly<Record<Countable, (db: Queries, tenant: string) => PromiseLike<{ used: number }[]>>> = {
  bytes: (db, tenant) => db.$queryRaw`
    SELECT (coalesce((SELECT sum(bytes) FROM datasets WHERE tenant_id = ${tenant} AND status <> 'invalid'), 0)
      + coalesce((SELECT sum(size) FROM uploads
                  WHERE tenant_id = ${tenant} AND dataset_id IS NULL AND expires_at > now()), 0)
      + coalesce((SELECT sum((f.value->>'size')::bigint) FROM models m, jsonb_each(m.storage) AS f
                  WHERE m.tenant_id = ${tenant}), 0)
      + coalesce((SELECT sum(size_bytes) FROM supernets WHERE tenant_id = ${tenant}), 0))::float8 AS used`,
  images: (db, tenant) => db.$queryRaw`
    SELECT coalesce(sum((counts->>'images')::bigint), 0)::float8 AS used
    FROM datasets WHERE tenant_id = ${tenant} AND status = 'ready'`,
  pixels: (db, tenant) => db.$queryRaw`
    SELECT coalesce(sum(pixels), 0)::float8 AS used
    FROM datasets WHERE tenant_id = ${tenant} AND status = 'ready'`,
  concurrent_jobs: async (db, tenant) => [{ used: (await usedByJobs(db, tenant)).jobs }],
  compute_seconds_per_month: async (db, tenant) => [{ used: (await usedByJobs(db, tenant)).seconds }],
};

interface UsedByJobs {
  readonly jobs: number;
  readonly seconds: number;
  readonly limits: unknown;
}
/** Jobs that have not ended, and seconds for which workers have held them this month; and what is allowed. */
async function usedByJobs(db: Queries, tenant: string): Promise<UsedByJobs> {
  const rows = await db.$queryRaw<UsedByJobs[]>`
    SELECT (SELECT count(*)::float8 FROM jobs
            WHERE tenant_id = ${tenant} AND status NOT IN ('cancelled', 'succeeded', 'failed')) AS jobs,
      (coalesce((SELECT sum(seconds) FROM compute_usage
                 WHERE tenant_id = ${tenant} AND day >= date_trunc('month', now() AT TIME ZONE 'UTC')), 0)
        + coalesce((SELECT sum(extract(epoch FROM least(now(), lease_until) - claimed_at)) FROM jobs
                    WHERE tenant_id = ${tenant} AND lease_token IS NOT NULL), 0))::float8 AS seconds,
      (SELECT limits FROM tenants WHERE id = ${tenant}) AS limits`;
  return rows[0]!;
}

async function usedBy(db: Queries, tenant: string, quota: Countable): Promise<number> {
  return (await USED[quota](db, tenant))[0]?.used ?? 0;
}

export async function quotasOf(db: Queries, tenant: string): Promise<Quotas> {
  const rows = await db.$queryRaw<{ limits: unknown }[]>`SELECT limits FROM tenants WHERE id = ${tenant}`;
  return toQuotas(rows[0]?.limits);
}

/** @throws {QuotaExceeded} unless the tenant may have so much more. Others who ask wait until the transaction ends. */
export async function requireRoom(
  tx: Queries,
  tenant: string,
  wanted: Partial<Record<Countable, number>>,
): Promise<void> {
  const quotas = await quotasOf(tx, tenant);
  const limited = (Object.keys(wanted) as Countable[]).filter((quota) => quotas[quota] !== null);
  if (limited.length === 0) return;
  // Two requests at once must not both take the last that is left.
  await tx.$queryRaw`SELECT 1 FROM tenants WHERE id = ${tenant} FOR NO KEY UPDATE`;
  for (const quota of limited) {
    const used = await usedBy(tx, tenant, quota);
    const limit = quotas[quota]!;
    // Of compute nobody knows beforehand how much will be taken: a job may begin while something is left.
    const enough = wanted[quota] === 0 ? used < limit : used + wanted[quota]! <= limit;
    if (!enough) throw new QuotaExceeded(quota, used, wanted[quota]!, limit);
  }
}

/** More submissions than these are not in the air at a time: every one of them holds a connection of Postgres. */
const FAR = 500;

/**
 * Jobs are taken one by one: as long as so many are left, submissions of a tenant need not wait for each other. null: nothing
 * limits its jobs.
 */
export async function farFromLimits(db: Queries, tenant: string): Promise<boolean | null> {
  const { jobs, seconds, limits } = await usedByJobs(db, tenant);
  const { concurrent_jobs: most, compute_seconds_per_month: longest } = toQuotas(limits);
  if (most === null && longest === null) return null;
  return (most === null || jobs + FAR < most) && (longest === null || seconds < longest);
}

export async function usage(db: Queries, tenant: string): Promise<Usage> {
  const quotas = await quotasOf(db, tenant);
  const of = async (quota: Countable) => ({ used: await usedBy(db, tenant, quota), limit: quotas[quota] });
  const now = new Date();
  const month = (offset: number): string =>
    new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + offset)).toISOString();
  const compute = await of('compute_seconds_per_month');
  return {
    object: 'usage',
    tenant,
    bytes: await of('bytes'),
    images: await of('images'),
    pixels: await of('pixels'),
    concurrent_jobs: await of('concurrent_jobs'),
    compute_seconds: { ...compute, period_start: month(0), period_end: month(1) },
  };
}
