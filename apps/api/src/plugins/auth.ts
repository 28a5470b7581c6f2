/** Bearer API keys: every /v1 route names the scope it needs, and what it reads or writes belongs to the key's tenant. */
import { OPERATOR_TENANT, ProblemError, type Scope } from '@ntaa/contracts';
import type { Principal } from '@ntaa/db';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { App, Deps, Limits } from '../types.js';

const allows = (principal: Principal, scope: Scope): boolean =>
  ['*', 'admin', scope].some((s) => principal.scopes.includes(s));

export function useAuth(app: App, { db }: Deps, limits: Limits): void {
  app.decorateRequest('principal', null as unknown as Principal);
  app.addHook('onRoute', ({ url, config }) => {
    if (url.startsWith('/v1') && !config?.scope && !config?.signedUrl)
      throw new Error(`Route ${url} names no scope`);
  });
  const failures = app.createRateLimit({ max: limits.failedAuthPerMinute, timeWindow: 60_000 });

  async function refuse(request: FastifyRequest, reply: FastifyReply, detail: string, error?: string) {
    const limit = await failures(request);
    if (!limit.isAllowed && limit.isExceeded) {
      void reply.header('retry-after', String(limit.ttlInSeconds));
      throw new ProblemError(
        'too-many-requests',
        'Too many requests without a valid API key from this address.',
      );
    }
    void reply.header('www-authenticate', `Bearer realm="ntaa"${error ? `, error="${error}"` : ''}`);
    throw new ProblemError('unauthorized', detail);
  }

  app.addHook('onRequest', async (request, reply) => {
    const { scope, operator } = request.routeOptions.config;
    if (!scope) return;
    const header = request.headers.authorization;
    if (!header) return refuse(request, reply, 'Send the header "Authorization: Bearer KEY".');
    const secret = /^bearer +([\x21-\x7e]{1,512})$/i.exec(header)?.[1];
    if (!secret)
      return refuse(request, reply, 'The Authorization header must be "Bearer KEY".', 'invalid_request');
    const principal = await db.keys.verify(secret);
    if (!principal) return refuse(request, reply, 'This API key is unknown or was revoked.', 'invalid_token');
    request.principal = principal;
    if (operator && principal.tenant !== OPERATOR_TENANT)
      throw new ProblemError(
        'forbidden',
        `This needs an admin key of the operator, tenant "${OPERATOR_TENANT}".`,
      );
    if (allows(principal, scope)) return;
    void reply.header(
      'www-authenticate',
      `Bearer realm="ntaa", error="insufficient_scope", scope="${scope}"`,
    );
    throw new ProblemError(
      'forbidden',
      `This needs the scope "${scope}"; the key has ${principal.scopes.join(', ') || 'none'}.`,
    );
  });
}
