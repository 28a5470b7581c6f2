import { Prisma } from './generated/client.js';
import { json, type Client } from './client.js';
import type { Idempotency, StoredResponse } from './types.js';

export function idempotency(db: Client): Idempotency {
  const where = (tenant: string, key: string, route: string) => ({ tenantId: tenant, key, route });
  return {
    async begin(tenant, key, route, bodyHash) {
      // One statement decides who is first. An expired row is taken over; so is one whose answer never came
      // (the process died), after an hour.
      const mine = await db.$executeRaw`
        INSERT INTO idempotency_keys AS k (tenant_id, key, route, body_hash)
        VALUES (${tenant}, ${key}, ${route}, ${bodyHash})
        ON CONFLICT (tenant_id, route, key) DO UPDATE
          SET body_hash = EXCLUDED.body_hash, status = NULL, response = NULL, created_at = now()
          WHERE k.created_at < now() - interval '24 hours'
             OR (k.status IS NULL AND k.created_at < now() - interval '1 hour')`;
      if (mine === 1) return { state: 'new' };
      const row = await db.idempotencyKey.findFirst({ where: where(tenant, key, route) });
      // Abandoned between the two statements: as it was when we asked.
      if (!row) return { state: 'in-flight' };
      if (row.bodyHash !== bodyHash) return { state: 'mismatch' };
      if (row.status === null) return { state: 'in-flight' };
      return { state: 'stored', response: row.response as unknown as StoredResponse };
    },
    async complete(tenant, key, route, response) {
      await db.idempotencyKey.updateMany({
        where: where(tenant, key, route),
        data: { status: response.status, response: json(response) },
      });
    },
    async abandon(tenant, key, route) {
      await db.idempotencyKey.deleteMany({
        where: { ...where(tenant, key, route), status: null, response: { equals: Prisma.DbNull } },
      });
    },
  };
}
