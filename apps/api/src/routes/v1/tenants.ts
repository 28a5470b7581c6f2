/** For the operator: whom the service serves, and what each of them may have. */
import {
  ListOf,
  PageQuery,
  ProblemError,
  Tenant,
  TenantId,
  TenantPatch,
  TenantRequest,
  Type,
} from '@ntaa/contracts';
import { bodyHash, createOnce } from '../../plugins/idempotency.js';
import { problems, ref } from '../../plugins/openapi.js';
import type { App, Deps } from '../../types.js';

const tags = ['tenants'];
const Params = Type.Object({ id: TenantId });
const config = { scope: 'admin', operator: true } as const;
const noSuchTenant = (id: string) => new ProblemError('not-found', `There is no tenant ${id}.`);

export function tenantRoutes(app: App, { db }: Deps): void {
  app.post(
    '/v1/tenants',
    {
      config,
      schema: {
        tags,
        summary: 'Make a tenant',
        description:
          'Make its first API key with `POST /v1/api-keys {"tenant": …}`. Only for admin keys of the tenant "default".',
        headers: Type.Object({ 'idempotency-key': Type.Optional(Type.String()) }),
        body: TenantRequest,
        response: { 201: ref(Tenant), ...problems(400, 409, 413, 415, 422) },
      },
    },
    async (request, reply) =>
      createOnce(db, request, reply, {
        hash: bodyHash(request.body),
        create: (once) => db.tenants.create(request.body, once),
        answer: (body: Tenant) => ({ status: 201, headers: { location: `/v1/tenants/${body.id}` }, body }),
      }),
  );
  app.get(
    '/v1/tenants',
    {
      config,
      schema: {
        tags,
        summary: 'List tenants, newest first',
        querystring: Type.Object(PageQuery, { additionalProperties: false }),
        response: { 200: ListOf(ref(Tenant)), ...problems(422) },
      },
    },
    async (request) => db.tenants.list(request.query),
  );
  app.get(
    '/v1/tenants/:id',
    {
      config,
      schema: {
        tags,
        summary: 'Get a tenant',
        params: Params,
        response: { 200: ref(Tenant), ...problems(404) },
      },
    },
    async (request) => {
      const tenant = await db.tenants.get(request.params.id);
      if (!tenant) throw noSuchTenant(request.params.id);
      return tenant;
    },
  );
  app.patch(
    '/v1/tenants/:id',
    {
      config,
      schema: {
        tags,
        summary: 'Rename, limit or disable a tenant',
        description: 'Quotas that are not named stay as they are. The keys of a disabled tenant are refused.',
        params: Params,
        body: TenantPatch,
        response: { 200: ref(Tenant), ...problems(400, 404, 409, 413, 415, 422) },
      },
    },
    async (request) => {
      const { id } = request.params;
      if (request.body.disabled && id === request.principal.tenant)
        throw new ProblemError(
          'conflict',
          'The tenant of the operator cannot be disabled: nobody could enable it.',
        );
      const tenant = await db.tenants.update(id, request.body);
      if (!tenant) throw noSuchTenant(id);
      return tenant;
    },
  );
}
