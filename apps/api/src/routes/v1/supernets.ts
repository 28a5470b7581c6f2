import { ListOf, PageQuery, ProblemError, Supernet, Type } from '@ntaa/contracts';
import { problems, ref } from '../../plugins/openapi.js';
import type { App, Deps } from '../../types.js';

const tags = ['supernets'];

export function supernetRoutes(app: App, { db }: Deps): void {
  app.get(
    '/v1/supernets',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'List supernets, newest first',
        querystring: Type.Object(PageQuery, { additionalProperties: false }),
        response: { 200: ListOf(ref(Supernet)), ...problems(422) },
      },
    },
    async (request) => db.supernets.list(request.principal.tenant, request.query),
  );
  app.get(
    '/v1/supernets/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'Get a supernet by id or name',
        params: Type.Object({ id: Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,62}$' }) }),
        response: { 200: ref(Supernet), ...problems(404) },
      },
    },
    async (request) => {
      const supernet = await db.supernets.get(request.principal.tenant, request.params.id);
      if (!supernet) throw new ProblemError('not-found', `There is no supernet ${request.params.id}.`);
      return supernet;
    },
  );
}
