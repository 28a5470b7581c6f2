/** Prometheus metrics: durations by route, the queue's depth, jobs by status, workers' engines, the process itself. */
import { JOB_STATUSES } from '@ntaa/contracts';
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { App, Deps } from '../types.js';

export function useMetrics(app: App, { db, queue }: Deps): void {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const durations = new Histogram({
    name: 'http_request_duration_seconds',
    help: 'Time from the request line to the end of the answer',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600],
    registers: [registry],
  });
  const depth = new Gauge({
    name: 'ntaa_queue_jobs',
    help: 'Queue jobs by name and state',
    labelNames: ['name', 'state'],
    registers: [registry],
  });
  const jobs = new Gauge({
    name: 'ntaa_jobs',
    help: 'Jobs by status, all tenants',
    labelNames: ['status'],
    registers: [registry],
  });

  const engines = new Gauge({
    name: 'ntaa_engine_info',
    help: 'Engines of the workers that are there, and why each was chosen; always 1',
    labelNames: ['kind', 'name', 'reason'],
    registers: [registry],
  });

  app.addHook('onResponse', async (request, reply) => {
    const labels = {
      method: request.method,
      route: request.routeOptions.url ?? 'unknown',
      status: String(reply.statusCode),
    };
    durations.observe(labels, reply.elapsedTime / 1000);
  });
  app.get(
    '/metrics',
    {
      config: { produces: { 200: ['text/plain'] } },
      schema: { tags: ['service'], summary: 'Prometheus metrics', security: [] },
    },
    async (_request, reply) => {
      // A scrape still tells of this process when what the service depends on is down.
      const [byName, byStatus, running] = await Promise.allSettled([
        queue.counts(),
        db.jobs.counts(),
        db.workers.engines(),
      ]);
      depth.reset();
      jobs.reset();
      engines.reset();
      if (byName.status === 'fulfilled')
        for (const [name, counts] of Object.entries(byName.value))
          for (const [state, count] of Object.entries(counts)) depth.set({ name, state }, Number(count));
      if (byStatus.status === 'fulfilled')
        for (const status of JOB_STATUSES) jobs.set({ status }, byStatus.value[status] ?? 0);
      if (running.status === 'fulfilled')
        for (const { kind, name, reason } of running.value) engines.set({ kind, name, reason }, 1);
      return reply.type(registry.contentType).send(await registry.metrics());
    },
  );
}
