import { Prisma } from './generated/client.js';
import type { Client } from './client.js';
import type { Direct, Queries } from './direct.js';
import { KeyLost, type Idempotency, type KeyClaim, type Once, type StoredResponse } from './types.js';

/** Only the latest claim's, and only while there is no answer. */
const unanswered = ({ tenant, key, route, since }: KeyClaim) => ({
  ...{ tenantId: tenant, key, route, createdAt: since },
  response: { equals: Prisma.DbNull },
});

/** Keeps the answer in the caller's transaction, which must not commit when the key was taken over: throws KeyLost. */
export async function answerOnce<T>(tx: Queries, once: Once<T> | undefined, made: T): Promise<T> {
  if (once === undefined) return made;
  const { tenant, key, route, since } = once.claim;
  const answer = once.answer(made);
  const kept = await tx.$queryRaw<unknown[]>`
    UPDATE idempotency_keys SET status = ${answer.status}, response = ${JSON.stringify(answer)}::jsonb
    WHERE tenant_id = ${tenant} AND key = ${key} AND route = ${route}
      AND created_at = ${since.toISOString()}::timestamptz AND response IS NULL
    RETURNING key`;
  if (kept.length === 0) throw new KeyLost(once.claim);
  return made;
}

export function idempotency(db: Client, sql: Direct): Idempotency {
  return {
    async begin(tenant, key, route, bodyHash, patience) {
      // One statement decides who is first. An expired row is taken over; so is one whose answer does not come.
      const [mine] = await sql.$queryRaw<{ since: Date }[]>`
        INSERT INTO idempotency_keys AS k (tenant_id, key, route, body_hash)
        VALUES (${tenant}, ${key}, ${route}, ${bodyHash})
        ON CONFLICT (tenant_id, route, key) DO UPDATE
          SET body_hash = EXCLUDED.body_hash, status = NULL, response = NULL, created_at = now()
          WHERE k.created_at < now() - interval '24 hours'
             OR (k.status IS NULL AND k.created_at < now() - ${patience} * interval '1 second')
        RETURNING created_at AS since`;
      if (mine) return { state: 'new', claim: { tenant, key, route, since: mine.since } };
      const row = await db.idempotencyKey.findFirst({ where: { tenantId: tenant, key, route } });
      // Abandoned between the two statements: as it was when we asked.
      if (!row) return { state: 'in-flight' };
      if (row.bodyHash !== bodyHash) return { state: 'mismatch' };
      if (row.status === null) return { state: 'in-flight' };
      return { state: 'stored', response: row.response as unknown as StoredResponse };
    },
    async abandon(claim) {
      await db.idempotencyKey.deleteMany({ where: unanswered(claim) });
    },
  };
}
