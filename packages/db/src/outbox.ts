import { json, type Client, type Tx } from './client.js';
import type { Direct } from './direct.js';
import type { Outbox, OutboxEntry } from './types.js';

/**
 * Writes an entry in the caller's transaction: it will be dispatched if, and only if, that commits, and not before so
 * many seconds.
 */
export async function enqueue(tx: Tx, tenant: string, entry: OutboxEntry, seconds = 0): Promise<void> {
  const { id } = await tx.outbox.create({
    data: { tenantId: tenant, name: entry.name, payload: json(entry.payload), dedupe: entry.dedupe },
    select: { id: true },
  });
  // By the database's clock, by which it is dispatched.
  if (seconds > 0)
    await tx.$executeRaw`UPDATE outbox SET due = now() + ${seconds} * interval '1 second' WHERE id = ${id}`;
}

/**
 * The queue's id of a job's next attempt. The attempt is part of it: while the queue still winds up the attempt
 * before, an equal id would be refused as a duplicate and the job would wait for the reconciler.
 */
export const runEntry = (jobId: string, attempt: number): OutboxEntry => ({
  name: 'job.run',
  payload: { job_id: jobId },
  dedupe: `${jobId}-${attempt + 1}`,
});

/** The queue's id of a delivery's next attempt. */
export const deliverEntry = (id: string, attempts: number): OutboxEntry => ({
  name: 'webhook.deliver',
  payload: { delivery_id: id },
  dedupe: `${id}-${attempts + 1}`,
});

/** Jobs that are read at a time, of however many wait. */
const PAGE = 200;

interface Waiting {
  id: string;
  name: string;
  payload: unknown;
  dedupe: string;
}

export function outbox(db: Client, sql: Direct): Outbox {
  return {
    dispatch(limit, send) {
      return sql.transaction(async (tx) => {
        const rows = await tx.$queryRaw<Waiting[]>`
          SELECT id, name, payload, dedupe FROM outbox WHERE dispatched_at IS NULL AND (due IS NULL OR due <= now())
          ORDER BY id LIMIT ${limit} FOR UPDATE SKIP LOCKED`;
        if (rows.length === 0) return 0;
        // All at once, in their order on one connection: the queue's answers need not be waited for one by one.
        const outcomes = await Promise.allSettled(
          rows.map(({ name, payload, dedupe }) => send({ name, payload, dedupe } as OutboxEntry)),
        );
        const sent = rows.filter((_, i) => outcomes[i]!.status === 'fulfilled').map(({ id }) => id);
        const failed = outcomes.find((outcome) => outcome.status === 'rejected');
        // What was sent is kept as sent even when others fail; with nothing sent, the caller hears why.
        if (failed && sent.length === 0) throw failed.reason;
        await tx.$queryRaw`UPDATE outbox SET dispatched_at = now() WHERE id = ANY(${sent}::bigint[])`;
        return sent.length;
      });
    },
    // Most of these read whole tables: not often.
    async forget() {
      await db.$executeRaw`DELETE FROM idempotency_keys WHERE created_at < now() - interval '24 hours'`;
      await db.$executeRaw`DELETE FROM outbox WHERE dispatched_at < now() - interval '1 day'`;
      await db.$executeRaw`
        DELETE FROM webhook_deliveries WHERE status <> 'pending' AND created_at < now() - interval '30 days'`;
      await db.$executeRaw`DELETE FROM audit_log WHERE created_at < now() - interval '365 days'`;
    },
    async *requeueCandidates() {
      for (const status of ['stopping', 'queued'])
        for (let [at, last] = ['-infinity', '']; ;) {
          const rows = await sql.$queryRaw<{ id: string; attempt: number; at: string }[]>`
            SELECT id, attempt, queued_at::text AS at FROM jobs
            WHERE status = ${status} AND (status = 'queued' OR lease_token IS NULL)
              AND queued_at < now() - interval '5 seconds'
              AND (queued_at, id) > (${at}::timestamptz, ${last}) ORDER BY queued_at, id LIMIT ${PAGE}`;
          if (rows.length > 0) yield rows.map(({ id, attempt }) => runEntry(id, attempt));
          if (rows.length < PAGE) break;
          ({ at, id: last } = rows.at(-1)!);
        }
      const validating = await db.$queryRaw<{ id: string }[]>`
        SELECT id FROM datasets
        WHERE status = 'validating' AND created_at < now() - interval '5 seconds'
          AND (retry_at IS NULL OR retry_at <= now()) ORDER BY id LIMIT 1000`;
      yield validating.map(({ id }): OutboxEntry => ({
        name: 'dataset.validate',
        payload: { dataset_id: id },
        dedupe: id,
      }));
      const untold = await db.$queryRaw<{ id: string; attempts: number }[]>`
        SELECT id, attempts FROM webhook_deliveries
        WHERE status = 'pending' AND next_attempt_at < now() - interval '5 seconds'
          AND (lease_until IS NULL OR lease_until < now()) ORDER BY next_attempt_at LIMIT 1000`;
      yield untold.map(({ id, attempts }) => deliverEntry(id, attempts));
    },
  };
}
