/** What the routes are built from, and Fastify's types bound to TypeBox schemas. */
import type { Config } from '@ntaa/config';
import type { Database, Principal } from '@ntaa/db';
import type { Queue } from '@ntaa/queue';
import type { Span, Tracing } from '@ntaa/tracing';
import type { ObjectStore } from '@ntaa/storage';
import type { Scope, Static, TSchema } from '@ntaa/contracts';
import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyTypeProvider,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify';
import type { Meters } from './meters.js';

/** Everything the service stands on. The caller opens and closes these; the app only uses them. */
export interface Deps {
  readonly db: Database;
  readonly queue: Queue;
  readonly store: ObjectStore;
  readonly config: Config;
  /** Default: silent. */
  readonly logger?: FastifyBaseLogger;
  readonly limits?: Partial<Limits>;
  /** What the process counts beside the app; default: the app's own. */
  readonly meters?: Meters;
  /** null, and default: nothing is traced. */
  readonly tracing?: Tracing | null;
}

/** Largest JSON body, bytes. */
export const JSON_BYTES = 1024 * 1024;

/** Protective limits, with their defaults in `DEFAULT_LIMITS`. */
export interface Limits {
  /** Requests a second of one API key. */
  readonly requestsPerSecond: number;
  /** Requests with a wrong API key that one address may make in a minute. */
  readonly failedAuthPerMinute: number;
  /** A JSON body that takes longer than so many milliseconds to arrive is given up. */
  readonly bodyMs: number;
  /** A connection on which nothing moved for so many milliseconds is closed, uploads included. */
  readonly idleMs: number;
  /** Answers in progress when the server is asked to close have so many milliseconds to end. */
  readonly closeMs: number;
  /** Between two comments on an idle event stream, milliseconds. */
  readonly heartbeatMs: number;
  /** Between two looks for objects to delete, milliseconds; the database also tells of them. */
  readonly collectMs: number;
}
export const DEFAULT_LIMITS: Limits = {
  requestsPerSecond: 100,
  failedAuthPerMinute: 100,
  bodyMs: 30_000,
  idleMs: 60_000,
  closeMs: 5_000,
  heartbeatMs: 15_000,
  collectMs: 10_000,
};

interface TypeBox extends FastifyTypeProvider {
  readonly validator: this['schema'] extends TSchema ? Static<this['schema']> : unknown;
  readonly serializer: unknown;
}
export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBox
>;

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks. Set on every route that names a scope. */
    principal: Principal;
    /** Where it is traced. */
    span?: Span;
  }
  interface FastifyContextConfig {
    /** What the API key must be allowed to do. Every /v1 route names it; routes without one are public. */
    scope?: Scope;
    /** Only keys of the operator's tenant may. */
    operator?: true;
    /** Does a request belong into the audit log? Default: when its method changes things. */
    audit?: boolean;
    /** The URL itself, which only an authorised caller was given, is what allows the request. */
    signedUrl?: true;
    /** Schema of a multipart form, for the OpenAPI document only: the handler reads the parts itself. */
    form?: TSchema;
    /** Media types of a response that is not JSON, for the OpenAPI document only. */
    produces?: Readonly<Record<string, readonly string[]>>;
    /** A better sentence for a schema error of this route, or undefined. */
    explain?: (pointer: string, value: unknown) => string | undefined;
  }
}
