import { createHash, randomBytes } from 'node:crypto';
import { newId } from '@ntaa/contracts';
import type { Client } from './client.js';
import { newestFirst, pageOf } from './page.js';
import { toApiKey } from './rows.js';
import type { Keys } from './types.js';

/** Secrets are random and long, so one plain hash is enough; looking it up by hash leaks no timing of the secret. */
const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex');
const USED_EVERY_MS = 60_000;

export function keys(db: Client): Keys {
  return {
    async create({ name, scopes, tenant = 'default' }) {
      const id = newId('key');
      const secret = `ntaa_${randomBytes(24).toString('base64url')}`;
      await db.apiKey.create({
        data: { id, tenantId: tenant, name, scopes: [...scopes], hash: hashOf(secret) },
      });
      return { id, secret };
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
      const row = await db.apiKey.findUnique({ where: { hash: hashOf(secret) } });
      if (!row || row.revokedAt) return null;
      if (!row.lastUsedAt || Date.now() - row.lastUsedAt.getTime() > USED_EVERY_MS)
        await db.apiKey.updateMany({ where: { id: row.id }, data: { lastUsedAt: new Date() } });
      return { id: row.id, tenant: row.tenantId, scopes: row.scopes };
    },
    async list(tenant, options = {}) {
      const query = await newestFirst(tenant, options, (id) =>
        db.apiKey.count({ where: { id, tenantId: tenant } }),
      );
      return pageOf(await db.apiKey.findMany(query), query.take, (row) => row.id, toApiKey);
    },
    async revoke(tenant, id) {
      const { count } = await db.apiKey.updateMany({
        where: { id, tenantId: tenant, revokedAt: null },
        data: { revokedAt: new Date() },
      });
      return count === 1;
    },
  };
}
