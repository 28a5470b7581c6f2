/** For the operator: the worker processes, and whether they work. */
import { ListOf, PageQuery, Worker, Type } from '@ntaa/contracts';
import { problems, ref } from '../../plugins/openapi.js';
import type { App, Deps } from '../../types.js';

export function workerRoutes(app: App, { db }: Deps): void {
  app.get(
    '/v1/workers',
    {
      config: { scope: 'admin', operator: true },
      schema: {
        tags: ['service'],
        summary: 'List workers, and whether they work',
        description:
          'By id. `silent`: not heard of for a minute; forgotten after an hour. `stalled`: it could take a job, one has been ' +
          'waiting for five minutes, and in as long it has taken none. Only for admin keys of the tenant "default".',
        querystring: Type.Object(PageQuery, { additionalProperties: false }),
        response: { 200: ListOf(ref(Worker)), ...problems(422) },
      },
    },
    async (request) => db.workers.list(request.query),
  );
}
