import {
  ApiKey,
  ApiKeyRequest,
  CreatedApiKey,
  Id,
  ListOf,
  OPERATOR_TENANT,
  PageQuery,
  ProblemError,
  TenantId,
} from '@ntaa/contracts';
import type { Principal } from '@ntaa/db';
import { Type } from 'typebox';
import { bodyHash, createOnce } from '../../plugins/idempotency.js';
import { problems, ref } from '../../plugins/openapi.js';
import type { App, Deps } from '../../types.js';

const tags = ['api-keys'];

/** The tenant that is named, which only the operator may do, or the caller's own. */
function tenantOf({ tenant: own }: Principal, named: string | undefined): string {
  if (named === undefined || named === own) return own;
  if (own === OPERATOR_TENANT) return named;
  throw new ProblemError('forbidden', `Keys of other tenants need an admin key of the operator.`);
}

export function apiKeyRoutes(app: App, { db }: Deps): void {
  app.post(
    '/v1/api-keys',
    {
      config: { scope: 'admin' },
      schema: {
        tags,
        summary: 'Make an API key',
        description:
          'The secret is shown in this answer only; a repetition with the same Idempotency-Key has `secret: null`. ' +
          'Admin keys of the tenant "default" make keys for other tenants, too.',
        headers: Type.Object({ 'idempotency-key': Type.Optional(Type.String()) }),
        body: ApiKeyRequest,
        response: { 201: ref(CreatedApiKey), ...problems(400, 409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name } = request.body;
      const scopes = [...new Set(request.body.scopes)];
      return createOnce(db, request, reply, bodyHash(request.body), async () => {
        const tenant = tenantOf(request.principal, request.body.tenant);
        if (tenant !== request.principal.tenant && !(await db.tenants.get(tenant)))
          throw new ProblemError('validation-failed', `There is no tenant ${tenant}.`, [
            { pointer: '/tenant', code: 'unknown-tenant', detail: 'does not exist' },
          ]);
        const { id, secret } = await db.keys.create({ name, scopes, tenant });
        const body = { id, object: 'api_key' as const, name, scopes, tenant };
        const headers = { location: `/v1/api-keys/${id}` };
        // Only the hash of a secret is ever stored, in the answers kept for replay too.
        return { status: 201, headers, body: { ...body, secret }, replay: { ...body, secret: null } };
      });
    },
  );
  app.get(
    '/v1/api-keys',
    {
      config: { scope: 'admin' },
      schema: {
        tags,
        summary: 'List API keys, newest first',
        querystring: Type.Object(
          { ...PageQuery, tenant: Type.Optional(TenantId) },
          { additionalProperties: false },
        ),
        response: { 200: ListOf(ref(ApiKey)), ...problems(422) },
      },
    },
    async ({ principal, query: { tenant, ...page } }) => db.keys.list(tenantOf(principal, tenant), page),
  );
  app.delete(
    '/v1/api-keys/:id',
    {
      config: { scope: 'admin' },
      schema: {
        tags,
        summary: 'Revoke an API key',
        params: Type.Object({ id: Id('key') }),
        response: { 204: Type.Null({ description: 'Revoked' }), ...problems(404) },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const { tenant } = request.principal;
      if (!(await db.keys.revoke(tenant === OPERATOR_TENANT ? null : tenant, id)))
        throw new ProblemError('not-found', `There is no API key ${id}.`);
      return reply.code(204).send();
    },
  );
}
