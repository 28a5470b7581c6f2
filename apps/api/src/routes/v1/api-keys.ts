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
  Type,
} from '@ntaa/contracts';
import type { MadeKey, Once, Principal } from '@ntaa/db';
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
          'The secret is shown in this answer only; a repetition with the same Idempotency-Key has `secret: null`: if the ' +
          'answer was lost on the way, delete that key and make another. ' +
          'Admin keys of the tenant "default" make keys for other tenants, too.',
        headers: Type.Object({ 'idempotency-key': Type.Optional(Type.String()) }),
        body: ApiKeyRequest,
        response: { 201: ref(CreatedApiKey), ...problems(400, 409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name } = request.body;
      const scopes = [...new Set(request.body.scopes)];
      const create = async (once: Once<MadeKey> | undefined): Promise<MadeKey> => {
        const tenant = tenantOf(request.principal, request.body.tenant);
        if (tenant !== request.principal.tenant && !(await db.tenants.get(tenant)))
          throw new ProblemError('validation-failed', `There is no tenant ${tenant}.`, [
            { pointer: '/tenant', code: 'unknown-tenant', detail: 'does not exist' },
          ]);
        return db.keys.create({ name, scopes, tenant }, once);
      };
      const show = ({ id, tenant }: MadeKey, secret: string | null) => ({
        ...{ status: 201, headers: { location: `/v1/api-keys/${id}` } },
        body: { id, object: 'api_key' as const, name, scopes, tenant, secret },
      });
      return createOnce(db, request, reply, {
        hash: bodyHash(request.body),
        create,
        answer: (made) => show(made, made.secret),
        // Only the hash of a secret is ever stored, in the answers kept for repetitions too.
        replay: (made) => show(made, null),
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
