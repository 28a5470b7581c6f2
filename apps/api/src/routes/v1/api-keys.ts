import { ApiKey, ApiKeyRequest, CreatedApiKey, Id, ListOf, PageQuery, ProblemError } from '@ntaa/contracts';
import { Type } from 'typebox';
import { bodyHash, createOnce } from '../../plugins/idempotency.js';
import { problems, ref } from '../../plugins/openapi.js';
import type { App, Deps } from '../../types.js';

const tags = ['api-keys'];

export function apiKeyRoutes(app: App, { db }: Deps): void {
  app.post(
    '/v1/api-keys',
    {
      config: { scope: 'admin' },
      schema: {
        tags,
        summary: 'Make an API key',
        description:
          'The secret is shown in this answer only; a repetition with the same Idempotency-Key has `secret: null`.',
        headers: Type.Object({ 'idempotency-key': Type.Optional(Type.String()) }),
        body: ApiKeyRequest,
        response: { 201: ref(CreatedApiKey), ...problems(400, 409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name } = request.body;
      const scopes = [...new Set(request.body.scopes)];
      return createOnce(db, request, reply, bodyHash(request.body), async () => {
        const { id, secret } = await db.keys.create({ name, scopes, tenant: request.principal.tenant });
        const body = { id, object: 'api_key' as const, name, scopes };
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
        querystring: Type.Object(PageQuery, { additionalProperties: false }),
        response: { 200: ListOf(ref(ApiKey)), ...problems(422) },
      },
    },
    async (request) => db.keys.list(request.principal.tenant, request.query),
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
      if (!(await db.keys.revoke(request.principal.tenant, id)))
        throw new ProblemError('not-found', `There is no API key ${id}.`);
      return reply.code(204).send();
    },
  );
}
