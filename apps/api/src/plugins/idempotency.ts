/** `Idempotency-Key`: a creating request that is sent again gets the answer it had, and creates nothing twice. */
import { ProblemError } from '@ntaa/contracts';
import { KeyLost, type Database, type Once, type StoredResponse } from '@ntaa/db';
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';

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

/** Seconds after which a request is thought dead that has one transaction to make. */
const ONE_TRANSACTION = 30;

interface Creation<T> {
  /** Of the request: with another one, its key is refused. */
  readonly hash: string;
  /** Makes it, and with it keeps the answer in the same transaction, where there is a key. */
  readonly create: (once: Once<T> | undefined) => Promise<T>;
  readonly answer: (made: T) => StoredResponse;
  /** What is kept for repetitions, and is not shown a secret; default: answer. */
  readonly replay?: (made: T) => StoredResponse;
  /** Called when `create` was not needed, before the answer: it removes what the request had brought along. */
  readonly discard?: () => Promise<void>;
  /** Seconds without an answer after which another request with the key may try. */
  readonly patience?: number;
}

/** Answers with what it makes, or with what was answered before under the request's key. */
export async function createOnce<T>(
  db: Database,
  request: FastifyRequest,
  reply: FastifyReply,
  { hash, create, answer, replay = answer, discard, patience = ONE_TRANSACTION }: Creation<T>,
): Promise<FastifyReply> {
  const key = idempotencyKey(request);
  if (key === null) return send(reply, answer(await create(undefined)));
  const { tenant } = request.principal;
  const route = `${request.method} ${request.routeOptions.url}`;
  const before = await db.idempotency.begin(tenant, key, route, hash, patience);
  if (before.state === 'new') {
    const { claim } = before;
    const made = await create({ claim, answer: replay }).catch(async (error: unknown) => {
      if (error instanceof KeyLost) throw inFlight(reply);
      // What cannot be abandoned now is taken over later.
      await db.idempotency.abandon(claim).catch(() => undefined);
      throw error;
    });
    return send(reply, answer(made));
  }
  await discard?.();
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

const send = (reply: FastifyReply, { status, headers, body }: StoredResponse): FastifyReply =>
  reply.code(status).headers(headers).send(body);
