import { Type, type Static } from 'typebox';
import { Id, Timestamp } from './ids.js';

/** Owner of everything where nobody has made another; its admin keys are the operator's. */
export const OPERATOR_TENANT = 'default';

/** A tenant's id: `default`, or one that was given. */
export const TenantId = Type.Union([Id('ten'), Type.Literal(OPERATOR_TENANT)], {
  description: 'Id with prefix ten_, or "default"',
});

const quota = (description: string, most = Number.MAX_SAFE_INTEGER) =>
  Type.Union([Type.Integer({ minimum: 0, maximum: most }), Type.Null()], { description });
const QUOTAS = {
  requests_per_second: quota('Of each API key; null: what the server allows', 100_000),
  bytes: quota('Archives of datasets, uploads under way, and files of models and supernets'),
  images: quota('Accepted images of all datasets'),
  pixels: quota('Width x height of all of those'),
  concurrent_jobs: quota('Jobs that have not ended: queued, running, paused'),
  compute_seconds_per_month: quota('Seconds for which workers hold jobs, in a calendar month of UTC'),
};
/** What a tenant may have; null: as much as there is. */
export const Quotas = Type.Object(QUOTAS);
export type Quotas = Static<typeof Quotas>;
export const NO_QUOTAS: Quotas = {
  requests_per_second: null,
  bytes: null,
  images: null,
  pixels: null,
  concurrent_jobs: null,
  compute_seconds_per_month: null,
};
const SomeQuotas = Type.Partial(Type.Object(QUOTAS), { additionalProperties: false });

const Name = Type.String({ minLength: 1, maxLength: 200 });
export const TenantRequest = Type.Object(
  { name: Name, quotas: Type.Optional(SomeQuotas) },
  { additionalProperties: false, $id: 'TenantRequest' },
);
export type TenantRequest = Static<typeof TenantRequest>;

export const TenantPatch = Type.Object(
  {
    name: Type.Optional(Name),
    quotas: Type.Optional(SomeQuotas),
    disabled: Type.Optional(Type.Boolean({ description: 'Its API keys are refused while it is' })),
  },
  { additionalProperties: false, minProperties: 1, $id: 'TenantPatch' },
);
export type TenantPatch = Static<typeof TenantPatch>;

export const Tenant = Type.Object(
  {
    id: TenantId,
    object: Type.Literal('tenant'),
    name: Type.String(),
    quotas: Quotas,
    created_at: Timestamp,
    disabled_at: Type.Union([Timestamp, Type.Null()]),
  },
  { $id: 'Tenant' },
);
export type Tenant = Static<typeof Tenant>;

/** Everything that may be too much, and how much of it is. Bytes, pixels and counts; null: no limit. */
export const Limits = Type.Object(
  {
    object: Type.Literal('limits'),
    tenant: Type.String(),
    quotas: Quotas,
    requests: Type.Object({
      per_second: Type.Integer({ description: 'Of each API key, at each server' }),
      unauthorized_per_minute: Type.Integer({ description: 'Of each address, with wrong API keys' }),
      json_bytes: Type.Integer(),
      idle_seconds: Type.Number({ description: 'A connection on which nothing moves for so long is closed' }),
    }),
    datasets: Type.Object({
      request_bytes: Type.Integer({ description: 'An archive in one request' }),
      upload_bytes: Type.Integer({ description: 'An archive in parts' }),
      entries: Type.Integer(),
      unpacked_bytes: Type.Integer(),
      compression_ratio: Type.Integer(),
      image_bytes: Type.Integer(),
      image_pixels: Type.Integer(),
      annotation_bytes: Type.Integer(),
      classes: Type.Integer(),
    }),
    predict: Type.Object({ images: Type.Integer(), image_bytes: Type.Integer(), bytes: Type.Integer() }),
  },
  { $id: 'Limits' },
);
export type Limits = Static<typeof Limits>;

const Used = Type.Object({
  used: Type.Number(),
  limit: Type.Union([Type.Number(), Type.Null()]),
});
export const Usage = Type.Object(
  {
    object: Type.Literal('usage'),
    tenant: Type.String(),
    bytes: Used,
    images: Used,
    pixels: Used,
    concurrent_jobs: Used,
    compute_seconds: Type.Object({ ...Used.properties, period_start: Timestamp, period_end: Timestamp }),
  },
  { $id: 'Usage' },
);
export type Usage = Static<typeof Usage>;

/** One request that changed something or was refused: who, what, from where. */
export const AuditEntry = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('audit_entry'),
    tenant: Type.String(),
    actor: Type.String({ description: 'Id of the API key' }),
    action: Type.String({ description: 'Method and route, as "POST /v1/jobs/:id/cancel"' }),
    target: Type.Union([Type.String(), Type.Null()], { description: 'Id of what it was done to, or made' }),
    status: Type.Integer({ description: 'HTTP status of the answer' }),
    address: Type.String(),
    request_id: Type.String(),
    created_at: Timestamp,
  },
  { $id: 'AuditEntry' },
);
export type AuditEntry = Static<typeof AuditEntry>;
