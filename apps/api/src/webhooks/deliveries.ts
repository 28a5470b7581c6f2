/** Delivers what webhooks are to be told of. The queue wakes any server; the database decides who delivers. */
import type { Database } from '@ntaa/db';
import type { Closable, Queue } from '@ntaa/queue';
import type { FastifyBaseLogger } from 'fastify';
import type { Meters } from '../meters.js';
import { AddressGuard } from './guard.js';
import { post } from './post.js';
import { signedHeaders } from './signature.js';

/** After the first attempt that fails, the second, …, seconds: three days in all. */
const RETRIES = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
const TIMEOUT_MS = 15_000;
/** Of one attempt. Longer than it can take: nobody repeats one that is under way. */
const LEASE_MS = 60_000;
const AT_ONCE = 8;
/** Nothing more is wanted at this address. */
const GONE = 410;

export interface DeliveryOptions {
  readonly db: Database;
  readonly queue: Queue;
  readonly log: Pick<FastifyBaseLogger, 'info' | 'warn'>;
  /** Host names, addresses and ranges that are not public and yet may be told. */
  readonly allow: readonly string[];
  readonly meters?: Pick<Meters, 'deliveries'>;
  /** Seconds before each further attempt. */
  readonly retries?: readonly number[];
}

export function startDeliveries(options: DeliveryOptions): Promise<Closable> {
  const { db, queue, log, retries = RETRIES } = options;
  const guard = new AddressGuard(options.allow);
  return queue.work('webhook.deliver', AT_ONCE, async ({ delivery_id }, closing) => {
    const claim = await db.webhooks.claim(delivery_id, LEASE_MS);
    if (!claim) return;
    const { id, attempt, url, secret, body, enabled } = claim;
    if (!enabled) {
      const error = 'the webhook was disabled';
      return db.webhooks.conclude(id, attempt, { responseStatus: null, error, retrySeconds: null });
    }
    const headers = {
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(body)),
      'user-agent': 'ntaa-webhooks',
      ...signedHeaders(secret, id, Math.floor(Date.now() / 1000), body),
    };
    const deadline = AbortSignal.any([closing, AbortSignal.timeout(TIMEOUT_MS)]);
    const { status, error } = await post(guard, url, headers, body, deadline);
    const pause = closing.aborted ? 1 : retries[attempt - 1];
    const disable = status === GONE;
    // Receivers that were away come back to their deliveries one by one.
    const retrySeconds =
      error === null || pause === undefined || disable ? null : pause * (1 + Math.random() / 10);
    options.meters?.deliveries.inc({
      outcome: error === null ? 'delivered' : retrySeconds === null ? 'failed' : 'retried',
    });
    await db.webhooks.conclude(id, attempt, { responseStatus: status, error, retrySeconds, disable });
    if (error !== null) log.warn({ delivery: id, type: claim.type, attempt, error }, 'webhook not delivered');
  });
}
