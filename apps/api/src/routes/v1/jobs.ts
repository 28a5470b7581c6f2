import {
  DryRun,
  Id,
  Job,
  JobStatus,
  ListOf,
  PageQuery,
  ProblemError,
  type AdaptRequest,
  type JobAction,
  type JobRequest,
  type PretrainRequest,
  Type,
} from '@ntaa/contracts';
import { killPoint } from '@ntaa/config';
import type { Once } from '@ntaa/db';
import { checkJob, estimate, explainPlanned } from '../../job-checks.js';
import { rememberedInputs } from '../../job-inputs.js';
import { bodyHash, createOnce } from '../../plugins/idempotency.js';
import { problems, ref } from '../../plugins/openapi.js';
import type { App, Deps } from '../../types.js';

const Body = Type.Unsafe<AdaptRequest | PretrainRequest>({
  type: 'object',
  discriminator: { propertyName: 'kind' },
  oneOf: [{ $ref: 'AdaptRequest#' }, { $ref: 'PretrainRequest#' }],
});
export const JobParams = Type.Object({ id: Id('job') });
export const noSuchJob = (id: string) => new ProblemError('not-found', `There is no job ${id}.`);
const accepted = (body: Job) => ({
  status: 202,
  headers: { location: `/v1/jobs/${body.id}` },
  body,
});
const tags = ['jobs'];

export function jobRoutes(app: App, { db }: Deps): void {
  const inputs = rememberedInputs(db);
  app.post(
    '/v1/jobs',
    {
      config: { scope: 'write', explain: explainPlanned },
      schema: {
        tags,
        summary: 'Start a job',
        description:
          'With `dry_run=true` the request is only validated and its cost estimated: nothing is made, so an ' +
          'Idempotency-Key is neither looked at nor used up.',
        headers: Type.Object({ 'idempotency-key': Type.Optional(Type.String()) }),
        querystring: Type.Object(
          { dry_run: Type.Optional(Type.Boolean({ default: false })) },
          { additionalProperties: false },
        ),
        body: Body,
        response: { 200: DryRun, 202: ref(Job), ...problems(400, 409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { tenant } = request.principal;
      const body: JobRequest = request.body;
      if (request.query.dry_run) {
        const { dataset, space } = await checkJob(db, tenant, body);
        return estimate(body, dataset, space);
      }
      const create = async (once: Once<Job> | undefined): Promise<Job> => {
        await checkJob(db, tenant, body, inputs);
        const job = await db.jobs.create(tenant, body, once, request.span?.traceparent);
        // Deleted, or not ready any more, since it was looked at.
        if (typeof job === 'string') {
          inputs.forget();
          await checkJob(db, tenant, body);
          throw new ProblemError('conflict', `${body.dataset} has just been changed or deleted.`);
        }
        killPoint('api.job-created');
        request.span?.set({ 'ntaa.job.id': job.id });
        return job;
      };
      return createOnce(db, request, reply, { hash: bodyHash(body), create, answer: accepted });
    },
  );

  app.get(
    '/v1/jobs',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'List jobs, newest first',
        querystring: Type.Object(
          { ...PageQuery, status: Type.Optional(JobStatus), kind: Type.Optional(Job.properties.kind) },
          { additionalProperties: false },
        ),
        response: { 200: ListOf(ref(Job)), ...problems(422) },
      },
    },
    async (request) => db.jobs.list(request.principal.tenant, request.query),
  );

  app.get(
    '/v1/jobs/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'Get a job',
        params: JobParams,
        response: { 200: ref(Job), ...problems(404) },
      },
    },
    async (request) => {
      const job = await db.jobs.get(request.principal.tenant, request.params.id);
      if (!job) throw noSuchJob(request.params.id);
      return job;
    },
  );
  for (const action of ['cancel', 'stop', 'pause', 'resume'] as const) actionRoute(app, db, action);
}

const SUMMARY: Readonly<Record<JobAction, string>> = {
  cancel: 'Cancel a job and discard what it made',
  stop: 'Stop a running job and keep the best model so far',
  pause: 'Pause a job at its next checkpoint',
  resume: 'Go on with a paused job',
};
function actionRoute(app: App, db: Deps['db'], action: JobAction): void {
  app.post(
    `/v1/jobs/:id/${action}`,
    {
      config: { scope: 'write' },
      schema: {
        tags,
        summary: SUMMARY[action],
        description:
          '202 when this changed the job, 200 when it had been asked before, 409 from any other status.',
        params: JobParams,
        response: { 200: ref(Job), 202: ref(Job), ...problems(404, 409) },
      },
    },
    async (request, reply) => {
      const { id } = request.params as { id: string };
      const outcome = await db.jobs.action(request.principal.tenant, id, action);
      if (outcome === 'missing') throw noSuchJob(id);
      if ('illegal' in outcome)
        throw new ProblemError('conflict', `${id} is ${outcome.illegal}: it cannot be asked to ${action}.`);
      return reply.code(outcome.changed ? 202 : 200).send(outcome.job);
    },
  );
}
