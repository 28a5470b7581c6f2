/** What a job writes while it runs: its event log, as pages or as a stream, and its candidates. */
import { Candidate, isTerminal, JobEvent, ListOf, PageQuery, Type } from '@ntaa/contracts';
import { Readable } from 'node:stream';
import { eventStream } from '../../event-stream.js';
import type { JobFeed } from '../../plugins/job-feed.js';
import { problems, ref } from '../../plugins/openapi.js';
import type { App, Deps, Limits } from '../../types.js';
import { JobParams, noSuchJob } from './jobs.js';

const tags = ['jobs'];

export function jobRecordRoutes(app: App, { db }: Deps, feed: JobFeed, limits: Limits): void {
  app.get(
    '/v1/jobs/:id/events',
    {
      config: { scope: 'read', produces: { 200: ['application/json', 'text/event-stream'] } },
      schema: {
        tags,
        summary: "A job's events, oldest first",
        description:
          'With `Accept: text/event-stream` a stream of Server-Sent Events: `id` is the seq, `event` the type, `data` the event ' +
          'as JSON. It begins after `Last-Event-ID` (or `after`), goes on live and ends after the event `done`; 204 when ' +
          'nothing will ever follow.',
        params: JobParams,
        headers: Type.Object({
          'last-event-id': Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1 })),
        }),
        querystring: Type.Object(
          {
            after: Type.Optional(
              Type.Integer({
                minimum: 0,
                maximum: 2 ** 31 - 1,
                description: 'Seq of the last event already known',
              }),
            ),
            limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100 })),
          },
          { additionalProperties: false },
        ),
        response: {
          200: ListOf(ref(JobEvent)),
          204: Type.Null({ description: 'The stream is over' }),
          ...problems(404, 422),
        },
      },
    },
    async (request, reply) => {
      const { tenant } = request.principal;
      const { id } = request.params;
      if (!asksForStream(request.headers.accept)) {
        const page = await db.jobs.events(tenant, id, request.query);
        if (!page) throw noSuchJob(id);
        return page;
      }
      const after = request.headers['last-event-id'] ?? request.query.after ?? 0;
      const job = await db.jobs.get(tenant, id);
      if (!job) throw noSuchJob(id);
      const first = await db.jobs.events(tenant, id, { after, limit: 1 });
      // A browser would connect again for ever to a stream that merely ends; 204 tells it to stop.
      if (isTerminal(job.status) && !first?.data.length) return reply.code(204).send();
      const gone = new AbortController();
      reply.raw.once('close', () => gone.abort());
      const stream = eventStream(feed, {
        tenant,
        job: id,
        after,
        heartbeatMs: limits.heartbeatMs,
        signal: gone.signal,
      });
      return reply
        .header('cache-control', 'no-cache, no-transform')
        .header('x-accel-buffering', 'no')
        .type('text/event-stream')
        .send(Readable.from(stream, { objectMode: false }));
    },
  );

  app.get(
    '/v1/jobs/:id/candidates',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'Architectures evaluated so far, in order of evaluation',
        params: JobParams,
        querystring: Type.Object(
          {
            ...PageQuery,
            pareto: Type.Optional(
              Type.Boolean({ description: 'Only those on (true) or off (false) the Pareto front' }),
            ),
          },
          { additionalProperties: false },
        ),
        response: { 200: ListOf(ref(Candidate)), ...problems(404, 422) },
      },
    },
    async (request) => {
      const page = await db.jobs.candidates(request.principal.tenant, request.params.id, request.query);
      if (!page) throw noSuchJob(request.params.id);
      return page;
    },
  );
}

/** Accept names the media type of streams, and not with `q=0`. */
function asksForStream(accept = ''): boolean {
  return accept.split(',').some((range) => {
    const [type, ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    return type === 'text/event-stream' && !parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter));
  });
}
