/** Builds the service. Nothing listens here: server.ts does, and tests inject. */
import multipart from '@fastify/multipart';
import { newId } from '@ntaa/contracts';
import Fastify from 'fastify';
import type { Socket } from 'node:net';
import { RequestLog } from './request-log.js';
import { openJobFeed } from './plugins/job-feed.js';
import { useAudit } from './plugins/audit.js';
import { useAuth } from './plugins/auth.js';
import { useCollector } from './plugins/collector.js';
import { useMetrics } from './plugins/metrics.js';
import { useOpenApi } from './plugins/openapi.js';
import { answerBrokenHttp, sendProblem, useProblems } from './plugins/problems.js';
import { useKeyRateLimit, useProtection } from './plugins/protection.js';
import { useTracing } from './plugins/tracing.js';
import { useValidation } from './plugins/validation.js';
import { healthRoutes } from './routes/health.js';
import { accountRoutes } from './routes/v1/account.js';
import { apiKeyRoutes } from './routes/v1/api-keys.js';
import { datasetRoutes } from './routes/v1/datasets.js';
import { jobRecordRoutes } from './routes/v1/job-records.js';
import { jobRoutes } from './routes/v1/jobs.js';
import { modelRoutes } from './routes/v1/models.js';
import { supernetRoutes } from './routes/v1/supernets.js';
import { tenantRoutes } from './routes/v1/tenants.js';
import { uploadRoutes } from './routes/v1/uploads.js';
import { webhookRoutes } from './routes/v1/webhooks.js';
import { workerRoutes } from './routes/v1/workers.js';
import { DEFAULT_LIMITS, JSON_BYTES, type App, type Deps, type Limits } from './types.js';

export async function buildApp(deps: Deps): Promise<App> {
  const limits: Limits = { ...DEFAULT_LIMITS, ...deps.limits };
  const app: App = Fastify({
    ...(deps.logger ? { loggerInstance: deps.logger } : {}),
    bodyLimit: JSON_BYTES,
    // An upload may take hours: what moves is left alone (idle timeout), what does not is cut. See also protection.ts.
    requestTimeout: 0,
    connectionTimeout: limits.idleMs,
    keepAliveTimeout: 72_000,
    http: { headersTimeout: 15_000, connectionsCheckingInterval: 5_000 },
    forceCloseConnections: 'idle',
    // Whose word about the caller's address is taken.
    trustProxy: deps.config.trustedProxies.length ? [...deps.config.trustedProxies] : false,
    logController: new RequestLog({ requestIdLogLabel: 'request_id' }),
    genReqId: ({ headers }) => {
      const given = headers['x-request-id'];
      return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : newId('req');
    },
    clientErrorHandler: (error, socket) => answerBrokenHttp(error, socket as Socket),
    frameworkErrors: (error, request, reply) => void sendProblem(error, request, reply),
    routerOptions: { ignoreTrailingSlash: false },
  });
  useTracing(app, deps);
  app.addHook('onRequest', async (request, reply) => void reply.header('x-request-id', request.id));
  app.addHook('preHandler', async (request) => {
    const { id } = (request.params ?? {}) as { id?: string };
    // What is logged of a job's requests can be found by the job, beside what its workers say.
    if (!id?.startsWith('job_')) return;
    request.log = request.log.child({ job: id });
    request.span?.set({ 'ntaa.job.id': id });
  });
  app.addHook('preClose', async () => {
    setTimeout(() => app.server.closeAllConnections(), limits.closeMs).unref();
  });
  // Answers are made by typed mappers, one for each shape: compiled serialisers found nothing to leave out, and were compiled
  // when they were first needed, 0.1 s and more for each route.
  app.setSerializerCompiler(() => JSON.stringify);
  useProblems(app);
  useValidation(app);
  await useProtection(app, limits);
  useAuth(app, deps, limits);
  useAudit(app, deps);
  useKeyRateLimit(app, limits);
  // The limit on a file's size is kept by whoever reads it, with a better message.
  await app.register(multipart, { throwFileSizeLimit: false });
  await useOpenApi(app);
  useMetrics(app, deps);
  useCollector(app, deps, limits);
  healthRoutes(app, deps);

  const feed = await openJobFeed(app, deps);
  datasetRoutes(app, deps);
  uploadRoutes(app, deps);
  supernetRoutes(app, deps);
  jobRoutes(app, deps);
  jobRecordRoutes(app, deps, feed, limits);
  modelRoutes(app, deps);
  apiKeyRoutes(app, deps);
  tenantRoutes(app, deps);
  accountRoutes(app, deps, limits);
  webhookRoutes(app, deps);
  workerRoutes(app, deps);
  return app;
}
export type { App, Deps, Limits } from './types.js';
