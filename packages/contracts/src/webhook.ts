import { Type, type Static } from 'typebox';
import { Id, Timestamp } from './ids.js';

/** What webhooks can be told of. */
export const WEBHOOK_EVENTS = [
  'job.started',
  'job.paused',
  'job.succeeded',
  'job.failed',
  'job.cancelled',
  'dataset.ready',
  'dataset.invalid',
] as const;
export type WebhookEvent = (typeof WEBHOOK_EVENTS)[number];
/** Sent by `POST /v1/webhooks/{id}/ping`, whatever the webhook is told of. */
export const WEBHOOK_PING = 'webhook.ping';

const Url = Type.String({
  minLength: 1,
  maxLength: 2000,
  description: 'https, without user and password; no private, loopback or link-local address',
});
const Events = Type.Array(Type.Enum([...WEBHOOK_EVENTS, '*']), {
  minItems: 1,
  maxItems: 20,
  description: '"*": all, also those that are yet to be invented',
});
const Description = Type.String({ maxLength: 500 });

export const WebhookRequest = Type.Object(
  { url: Url, events: Events, description: Type.Optional(Description) },
  { additionalProperties: false, $id: 'WebhookRequest' },
);
export type WebhookRequest = Static<typeof WebhookRequest>;

export const WebhookPatch = Type.Object(
  {
    url: Type.Optional(Url),
    events: Type.Optional(Events),
    description: Type.Optional(Description),
    enabled: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false, minProperties: 1, $id: 'WebhookPatch' },
);
export type WebhookPatch = Static<typeof WebhookPatch>;

const FIELDS = {
  id: Id('wh'),
  object: Type.Literal('webhook'),
  url: Type.String(),
  events: Type.Array(Type.String()),
  description: Type.String(),
  enabled: Type.Boolean({ description: 'Becomes false when the receiver answers 410 Gone' }),
  created_at: Timestamp,
};
export const Webhook = Type.Object(FIELDS, { $id: 'Webhook' });
export type Webhook = Static<typeof Webhook>;

/** Answer of the request that made it, the only one that holds the secret. */
export const CreatedWebhook = Type.Object(
  {
    ...FIELDS,
    secret: Type.Union([Type.String(), Type.Null()], {
      description:
        'Shown once (null when an Idempotency-Key replays the answer). Signs as https://www.standardwebhooks.com says',
    }),
  },
  { $id: 'CreatedWebhook' },
);
export type CreatedWebhook = Static<typeof CreatedWebhook>;

export const DELIVERY_STATUSES = ['pending', 'succeeded', 'failed'] as const;
export const WebhookDelivery = Type.Object(
  {
    id: Id('msg'),
    object: Type.Literal('webhook_delivery'),
    type: Type.String(),
    status: Type.Enum([...DELIVERY_STATUSES]),
    attempts: Type.Integer(),
    response_status: Type.Union([Type.Integer(), Type.Null()]),
    error: Type.Union([Type.String(), Type.Null()], { description: 'Why the last attempt failed' }),
    next_attempt_at: Type.Union([Timestamp, Type.Null()]),
    created_at: Timestamp,
    delivered_at: Type.Union([Timestamp, Type.Null()]),
  },
  { $id: 'WebhookDelivery' },
);
export type WebhookDelivery = Static<typeof WebhookDelivery>;

/** Body of a delivery: what happened, when, to what. `GET` the resource for the rest. */
export interface WebhookMessage {
  readonly type: WebhookEvent | typeof WEBHOOK_PING;
  readonly timestamp: string;
  readonly data: Readonly<Record<string, unknown>>;
}
