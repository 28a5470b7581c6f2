/** `Idempotency-Key`: a creating request that is sent again gets the answer it had, and creates nothing twice. */
import { ProblemError } from '@ntaa/contracts';
import { KeyLost, type Database, type KeyClaim, type StoredResponse } from '@ntaa/db';
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
  /** What a repetition is answered when it may not see the body itself (a secret); default: body. */
  readonly replay?: unknown;
  /** It was kept under the key together with what it tells of. */
  readonly kept?: boolean;
}

/** The request's key, or null. */
export function idempotencyKey(request: FastifyRequest): string | null {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return null;
  if (typeof key === 'string' && /^[\x21-\x7e]{1,255}$/.test(key)) return key;
  throw new ProblemError('malformed-request', 'Idempotency-Key must be 1 to 255 visible ASCII characters.', [
    { pointer: 'Idempotency-Key', code: 'invalid-header', detail: 'use a UUID, for instance' },
  ]);
}

/** SHA-256 of a value; the order of object keys does not matter. */
export function bodyHash(value: unknown): string {
  const sorted = (_: string, v: unknown) =>
    v !== null && typeof v === 'object' && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)))
      : v;
  return createHash('sha256').update(JSON.stringify(value, sorted)).digest('hex');
}

/** Seconds after which a request is thought dead whose answer is kept in the transaction that makes what was asked for. */
export const ONE_TRANSACTION = 30;

interface CreateOptions {
  /** Called when `create` was not needed, before the answer: it removes what the request had brought along. */
  readonly discard?: () => Promise<void>;
  /** Seconds without an answer after which another request with the key may try; default: see Idempotency. */
  readonly patience?: number;
}

/**
 * Answers with `create()`, or with what it answered before under this key. `create` is given the claim on the key, if there
 * is one, to keep the answer together with what it makes; otherwise it is kept afterwards.
 */
export async function createOnce(
  db: Database,
  request: FastifyRequest,
  reply: FastifyReply,
  hash: string,
  create: (claim: KeyClaim | undefined) => Promise<Answer>,
  { discard = async () => undefined, patience }: CreateOptions = {},
): Promise<FastifyReply> {
  const key = idempotencyKey(request);
  if (key === null) return send(reply, await create(undefined));
  const { tenant } = request.principal;
  const route = `${request.method} ${request.routeOptions.url}`;
  const before = await db.idempotency.begin(tenant, key, route, hash, patience);
  if (before.state === 'new') {
    const answer = await create(before.claim).catch(async (error: unknown) => {
      if (error instanceof KeyLost) throw inFlight(reply);
      // What cannot be abandoned now is taken over later.
      await db.idempotency.abandon(before.claim).catch(() => undefined);
      throw error;
    });
    const { status, headers, body, replay = body } = answer;
    if (!answer.kept) await db.idempotency.complete(before.claim, { status, headers, body: replay });
    return send(reply, answer);
  }
  await discard();
  if (before.state === 'stored') {
    void reply.header('idempotency-replayed', 'true');
    return send(reply, before.response);
  }
  if (before.state === 'mismatch')
    throw new ProblemError(
      'idempotency-mismatch',
      'This Idempotency-Key was used with another request; use a new key for a new request.',
    );
  throw inFlight(reply);
}

function inFlight(reply: FastifyReply): ProblemError {
  void reply.header('retry-after', '1');
  return new ProblemError(
    'idempotency-in-flight',
    'The first request with this Idempotency-Key is still being answered.',
  );
}

const send = (reply: FastifyReply, { status, headers, body }: StoredResponse | Answer): FastifyReply =>
  reply.code(status).headers(headers).send(body);
