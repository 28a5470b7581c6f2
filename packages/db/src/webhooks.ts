/**
 * Webhooks and what is to be delivered to them. What happens and what has to be told of it are written in one
 * transaction; the queue wakes a server to tell it, and tries again later by way of the outbox.
 */
import { randomBytes } from 'node:crypto';
import { newId, WEBHOOK_PING, type WebhookEvent, type WebhookMessage } from '@ntaa/contracts';
import { json, type Client, type Tx } from './client.js';
import { answerOnce } from './idempotency.js';
import { deliverEntry, enqueue } from './outbox.js';
import { newestFirst, pageOf } from './page.js';
import { toDelivery, toWebhook } from './rows.js';
import type { Webhooks } from './types.js';

async function send(tx: Tx, tenant: string, webhookId: string, message: WebhookMessage) {
  const data = { id: newId('msg'), tenantId: tenant, webhookId, type: message.type, payload: json(message) };
  const row = await tx.webhookDelivery.create({ data });
  await enqueue(tx, tenant, deliverEntry(row.id, 0));
  return row;
}

/** Has every webhook of the tenant that wants to know told, if the transaction commits. */
export async function announce(
  tx: Tx,
  tenant: string,
  type: WebhookEvent,
  data: WebhookMessage['data'],
): Promise<void> {
  const where = { tenantId: tenant, enabled: true, events: { hasSome: [type, '*'] } };
  const listeners = await tx.webhook.findMany({ where, select: { id: true } });
  const message = { type, timestamp: new Date().toISOString(), data };
  for (const { id } of listeners) await send(tx, tenant, id, message);
}

export function webhooks(db: Client): Webhooks {
  const find = (tenant: string, id: string) => db.webhook.findFirst({ where: { id, tenantId: tenant } });
  return {
    create(tenant, { url, events, description = '' }, once) {
      const secret = `whsec_${randomBytes(32).toString('base64')}`;
      const data = {
        id: newId('wh'),
        tenantId: tenant,
        url,
        events: [...new Set(events)],
        description,
        secret,
      };
      return db.$transaction(async (tx) => {
        const webhook = toWebhook(await tx.webhook.create({ data }));
        return answerOnce(tx, once, { webhook, secret });
      });
    },
    async get(tenant, id) {
      const row = await find(tenant, id);
      return row && toWebhook(row);
    },
    async list(tenant, options = {}) {
      const query = await newestFirst(tenant, options, (id) =>
        db.webhook.count({ where: { id, tenantId: tenant } }),
      );
      return pageOf(await db.webhook.findMany(query), query.take, (row) => row.id, toWebhook);
    },
    async update(tenant, id, { url, events, description, enabled }) {
      const data = {
        ...(url === undefined ? {} : { url }),
        ...(events === undefined ? {} : { events: [...new Set(events)] }),
        ...(description === undefined ? {} : { description }),
        ...(enabled === undefined ? {} : { enabled }),
      };
      const { count } = await db.webhook.updateMany({ where: { id, tenantId: tenant }, data });
      return count === 0 ? null : this.get(tenant, id);
    },
    async delete(tenant, id) {
      return (await db.webhook.deleteMany({ where: { id, tenantId: tenant } })).count === 1;
    },
    async deliveries(tenant, id, { status, ...options } = {}) {
      if (!(await find(tenant, id))) return null;
      const mine = { webhookId: id, tenantId: tenant };
      const query = await newestFirst(tenant, options, (delivery) =>
        db.webhookDelivery.count({ where: { id: delivery, ...mine } }),
      );
      const where = { ...query.where, ...mine, ...(status ? { status } : {}) };
      const rows = await db.webhookDelivery.findMany({ ...query, where });
      return pageOf(rows, query.take, (row) => row.id, toDelivery);
    },
    ping(tenant, id) {
      return db.$transaction(async (tx) => {
        if ((await tx.webhook.count({ where: { id, tenantId: tenant } })) === 0) return null;
        const message = {
          type: WEBHOOK_PING,
          timestamp: new Date().toISOString(),
          data: { webhook: id },
        } as const;
        return toDelivery(await send(tx, tenant, id, message));
      });
    },

    async claim(id, leaseMs) {
      const taken = await db.$executeRaw`
        UPDATE webhook_deliveries SET attempts = attempts + 1,
          lease_until = now() + ${leaseMs} * interval '1 millisecond'
        WHERE id = ${id} AND status = 'pending' AND next_attempt_at <= now()
          AND (lease_until IS NULL OR lease_until < now())`;
      if (taken === 0) return null;
      const row = await db.webhookDelivery.findUnique({ where: { id }, include: { webhook: true } });
      // Deleted with its webhook meanwhile.
      if (!row) return null;
      const { url, secret, enabled } = row.webhook;
      const body = JSON.stringify(row.payload);
      return { id, tenant: row.tenantId, type: row.type, attempt: row.attempts, url, secret, enabled, body };
    },
    conclude(id, attempt, { responseStatus, error, retrySeconds, disable }) {
      return db.$transaction(async (tx) => {
        const status = error === null ? 'succeeded' : retrySeconds === null ? 'failed' : 'pending';
        const { count } = await tx.webhookDelivery.updateMany({
          // An attempt that outlived its lease, and was repeated, says nothing any more.
          where: { id, attempts: attempt, status: 'pending' },
          data: {
            ...{ status, responseStatus, error, leaseUntil: null, nextAttemptAt: null },
            ...(status === 'succeeded' ? { deliveredAt: new Date() } : {}),
          },
        });
        if (count === 0) return;
        const { tenantId, webhookId } = await tx.webhookDelivery.findUniqueOrThrow({ where: { id } });
        if (disable) await tx.webhook.updateMany({ where: { id: webhookId }, data: { enabled: false } });
        if (status !== 'pending') return;
        await tx.$executeRaw`
          UPDATE webhook_deliveries SET next_attempt_at = now() + ${retrySeconds} * interval '1 second'
          WHERE id = ${id}`;
        await enqueue(tx, tenantId, deliverEntry(id, attempt), retrySeconds!);
      });
    },
  };
}
