/** `Idempotency-Key`: a creating request that is sent again gets the answer it had, and creates nothing twice. */
import { ProblemError } from '@ntaa/contracts';
import type { Database, StoredResponse } from '@ntaa/db';
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
  /** What a repetition is answered when it may not see the body itself (a secret); default: body. */
  readonly replay?: unknown;
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

/**
 * Answers with `create()`, or with what it answered before under this key. `discard` is called when `create` was not
 * needed, before the answer: it removes what the request had brought along.
 */
export async function createOnce(
  db: Database,
  request: FastifyRequest,
  reply: FastifyReply,
  hash: string,
  create: () => Promise<Answer>,
  discard: () => Promise<void> = async () => undefined,
): Promise<FastifyReply> {
  const key = idempotencyKey(request);
  if (key === null) return send(reply, await create());
  const { tenant } = request.principal;
  const route = `${request.method} ${request.routeOptions.url}`;
  const before = await db.idempotency.begin(tenant, key, route, hash);
  if (before.state === 'new') {
    const answer = await create().catch(async (error: unknown) => {
      await db.idempotency.abandon(tenant, key, route);
      throw error;
    });
    const { status, headers, body, replay = body } = answer;
    await db.idempotency.complete(tenant, key, route, { status, headers, body: replay });
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
  void reply.header('retry-after', '1');
  throw new ProblemError(
    'idempotency-in-flight',
    'The first request with this Idempotency-Key is still being answered.',
  );
}

const send = (reply: FastifyReply, { status, headers, body }: StoredResponse | Answer): FastifyReply =>
  reply.code(status).headers(headers).send(body);
