/** Every error leaves the service as an RFC 9457 problem document, and none of them tells internals. */
import {
  PROBLEMS,
  ProblemError,
  type Problem,
  type ProblemCode,
  type ProblemDetail,
  type Quotas,
} from '@ntaa/contracts';
import { QuotaExceeded, UnknownCursor } from '@ntaa/db';
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { isUnavailable } from '../unavailable.js';
import type { App } from '../types.js';
import { describeValidation } from './validation.js';

/** Fastify's and its plugins' own error codes, by the problem they are to a caller. */
const CODES: Readonly<Record<string, readonly [ProblemCode, string]>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    'unsupported-media-type',
    'A body of this content type is not taken here.',
  ],
  FST_ERR_CTP_BODY_TOO_LARGE: ['payload-too-large', 'The body is larger than is taken here.'],
  FST_INVALID_MULTIPART_CONTENT_TYPE: ['unsupported-media-type', 'Send the form as multipart/form-data.'],
  FST_PARTS_LIMIT: ['payload-too-large', 'The form has too many parts.'],
  FST_FILES_LIMIT: ['payload-too-large', 'The form has too many files.'],
  FST_FIELDS_LIMIT: ['payload-too-large', 'The form has too many fields.'],
  FST_REQ_FILE_TOO_LARGE: ['payload-too-large', 'A file of the form is too large.'],
  FST_ERR_NOT_FOUND: ['not-found', 'There is no such thing.'],
  FST_ERR_MAX_PARAM_LENGTH: ['not-found', 'There is no such thing: the id in the URL is not one.'],
  FST_ERR_BAD_URL: ['malformed-request', 'The URL is not valid: it cannot be decoded.'],
};

/** Quotas that time frees, and the problem of having exceeded them; others are `quota-exceeded`. */
const WAITING: Partial<Record<keyof Quotas, ProblemCode>> = {
  concurrent_jobs: 'too-many-jobs',
  compute_seconds_per_month: 'compute-exhausted',
};

function toProblem(
  error: FastifyError | ProblemError,
  request: FastifyRequest,
): { code: ProblemCode; detail: string; errors: readonly ProblemDetail[] } {
  if (error instanceof ProblemError) return { code: error.code, detail: error.message, errors: error.errors };
  if (error instanceof UnknownCursor) {
    const errors = [{ pointer: 'after', code: 'unknown-cursor', detail: error.message }];
    return { code: 'validation-failed', detail: `${error.message}.`, errors };
  }
  if (error instanceof QuotaExceeded) {
    const errors = [{ pointer: `/quotas/${error.quota}`, code: 'quota-exceeded', detail: error.message }];
    const detail = `${error.message}. GET /v1/usage shows what is used.`;
    return { code: WAITING[error.quota] ?? 'quota-exceeded', detail, errors };
  }
  if (error.validation) return describeValidation(error, request);
  const known = CODES[error.code ?? ''];
  if (known) return { code: known[0], detail: known[1], errors: [] };
  // Before what is unavailable: a caller that hangs up breaks a connection, too.
  if (error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500)
    return { code: 'malformed-request', detail: error.message, errors: [] };
  if (isUnavailable(error))
    return {
      code: 'unavailable',
      detail: 'A service this depends on does not answer; try again in a moment. /readyz names it.',
      errors: [],
    };
  return {
    code: 'internal',
    detail: 'The request could not be answered. Quote request_id when reporting it.',
    errors: [],
  };
}

function problemDocument(
  code: ProblemCode,
  detail: string,
  errors: readonly ProblemDetail[],
  where: { url: string; id: string },
): Problem {
  const [status, title] = PROBLEMS[code];
  const instance = where.url.split('?')[0] ?? '/';
  return {
    type: `urn:ntaa:problem:${code}`,
    title,
    status,
    detail,
    instance,
    code,
    request_id: where.id,
    errors: [...errors],
  };
}

/** When to ask again, seconds; where nothing said so before. */
const RETRY_AFTER: Partial<Record<ProblemCode, () => number>> = {
  unavailable: () => 5,
  'too-many-requests': () => 1,
  'too-many-jobs': () => 10,
  'compute-exhausted': () => {
    const now = new Date();
    return Math.ceil((Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1) - now.getTime()) / 1000);
  },
};

export function sendProblem(
  error: FastifyError | ProblemError,
  request: FastifyRequest,
  reply: FastifyReply,
) {
  const { code, detail, errors } = toProblem(error, request);
  const problem = problemDocument(code, detail, errors, { url: request.url, id: request.id });
  if (problem.status >= 500) request.log.error({ err: error }, 'request failed');
  const wait = RETRY_AFTER[code]?.();
  if (wait !== undefined && !reply.hasHeader('retry-after')) void reply.header('retry-after', String(wait));
  // What a handler had prepared for its success does not describe the problem.
  for (const name of ['content-length', 'content-disposition', 'etag', 'location', 'accept-ranges'])
    void reply.removeHeader(name);
  return reply
    .code(problem.status)
    .header('x-request-id', request.id)
    .header('cache-control', 'no-store')
    .type('application/problem+json')
    .serializer(JSON.stringify)
    .send(problem);
}

/** Answers what never became a request: broken HTTP, headers that are too long or too slow. */
export function answerBrokenHttp(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const status =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : error.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400;
  const body = JSON.stringify({
    ...problemDocument('malformed-request', 'This is not an HTTP request that can be read.', [], {
      url: '/',
      id: '',
    }),
    status,
    title: STATUS_CODES[status],
  });
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: application/problem+json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}

/** Error handler, and 404 or 405 for what is not routed. Call before the first route. */
export function useProblems(app: App): void {
  const routes: { method: string; pattern: RegExp }[] = [];
  app.addHook('onRoute', ({ method, url }) => {
    const pattern = new RegExp(`^${url.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/:[^/]+/g, '[^/]+')}$`);
    for (const one of [method].flat()) routes.push({ method: one, pattern });
  });
  app.setErrorHandler<FastifyError>((error, request, reply) => sendProblem(error, request, reply));
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?')[0] ?? '/';
    const allowed = [...new Set(routes.filter((r) => r.pattern.test(path)).map((r) => r.method))];
    if (!allowed.length)
      return sendProblem(
        new ProblemError('not-found', `There is nothing at ${path.slice(0, 200)}; see /docs.`),
        request,
        reply,
      );
    void reply.header('allow', allowed.join(', '));
    const detail = `${request.method} is not supported here; ${allowed.join(', ')} ${allowed.length > 1 ? 'are' : 'is'}.`;
    return sendProblem(new ProblemError('method-not-allowed', detail), request, reply);
  });
}
