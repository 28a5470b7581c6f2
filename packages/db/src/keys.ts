import { createHash, randomBytes } from 'node:crypto';
import { newId } from '@ntaa/contracts';
import type { Client } from './client.js';
import type { Direct } from './direct.js';
import { answerOnce } from './idempotency.js';
import { newestFirst, pageOf } from './page.js';
import { toQuotas } from './quotas.js';
import { toApiKey } from './rows.js';
import { together } from './together.js';
import type { Keys } from './types.js';

/** Secrets are random and long, so one plain hash is enough; looking it up by hash leaks no timing of the secret. */
const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex');
const USED_EVERY_MS = 60_000;

interface Verified {
  hash: string;
  id: string;
  tenant: string;
  scopes: string[];
  last_used_at: Date | null;
  limits: unknown;
}

export function keys(db: Client, sql: Direct): Keys {
  const find = together(async (hashes: readonly string[]) => {
    const rows = await sql.$queryRaw<Verified[]>`
      SELECT k.hash, k.id, k.tenant_id AS tenant, k.scopes, k.last_used_at, t.limits
      FROM api_keys k LEFT JOIN tenants t ON t.id = k.tenant_id
      WHERE k.hash = ANY(${hashes}::text[]) AND k.revoked_at IS NULL AND t.disabled_at IS NULL`;
    return hashes.map((hash) => rows.find((row) => row.hash === hash));
  });
  return {
    create({ name, scopes, tenant = 'default' }, once) {
      const id = newId('key');
      const secret = `ntaa_${randomBytes(24).toString('base64url')}`;
      const data = { id, tenantId: tenant, name, scopes: [...scopes], hash: hashOf(secret) };
      return db.$transaction(async (tx) => {
        await tx.apiKey.create({ data });
        return answerOnce(tx, once, { id, secret, tenant });
      });
    },
    async ensureBootstrap(secret) {
      const data = { hash: hashOf(secret), name: 'bootstrap', scopes: ['admin'], revokedAt: null };
      await db.apiKey.upsert({
        where: { id: 'key_bootstrap' },
        create: { id: 'key_bootstrap', tenantId: 'default', ...data },
        update: data,
      });
    },
    async verify(secret) {
      const key = await find(hashOf(secret));
      if (!key) return null;
      const { id, tenant, scopes, last_used_at: used, limits } = key;
      if (!used || Date.now() - used.getTime() > USED_EVERY_MS)
        await sql.$queryRaw`UPDATE api_keys SET last_used_at = now() WHERE id = ${id}`;
      return { id, tenant, scopes, requestsPerSecond: toQuotas(limits).requests_per_second };
    },
    async list(tenant, options = {}) {
      const query = await newestFirst(tenant, options, (id) =>
        db.apiKey.count({ where: { id, tenantId: tenant } }),
      );
      return pageOf(await db.apiKey.findMany(query), query.take, (row) => row.id, toApiKey);
    },
    async revoke(tenant, id) {
      const { count } = await db.apiKey.updateMany({
        where: { id, ...(tenant === null ? {} : { tenantId: tenant }), revokedAt: null },
        data: { revokedAt: new Date() },
      });
      return count === 1;
    },
  };
}
