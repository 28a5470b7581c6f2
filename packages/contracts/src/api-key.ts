import { Type, type Static } from 'typebox';
import { Id, Timestamp } from './ids.js';
import { TenantId } from './tenant.js';

/** `admin` includes the others. */
export const SCOPES = ['read', 'write', 'admin'] as const;
export const Scope = Type.Enum([...SCOPES]);
export type Scope = Static<typeof Scope>;

export const ApiKeyRequest = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 200 }),
    scopes: Type.Array(Scope, { minItems: 1, maxItems: 10 }),
    tenant: Type.Optional(TenantId),
  },
  { additionalProperties: false, $id: 'ApiKeyRequest' },
);
export type ApiKeyRequest = Static<typeof ApiKeyRequest>;

export const ApiKey = Type.Object(
  {
    id: Id('key'),
    object: Type.Literal('api_key'),
    name: Type.String(),
    scopes: Type.Array(Type.String()),
    tenant: Type.String(),
    created_at: Timestamp,
    last_used_at: Type.Union([Timestamp, Type.Null()], { description: 'To the minute' }),
    revoked_at: Type.Union([Timestamp, Type.Null()]),
  },
  { $id: 'ApiKey' },
);
export type ApiKey = Static<typeof ApiKey>;

/** Answer of the request that made the key, the only one that holds its secret. */
export const CreatedApiKey = Type.Object(
  {
    id: Id('key'),
    object: Type.Literal('api_key'),
    name: Type.String(),
    scopes: Type.Array(Type.String()),
    tenant: Type.String(),
    /** Shown once: null when an Idempotency-Key replays the answer. */
    secret: Type.Union([Type.String(), Type.Null()]),
  },
  { $id: 'CreatedApiKey' },
);
export type CreatedApiKey = Static<typeof CreatedApiKey>;
