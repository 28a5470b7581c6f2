/** Prometheus metrics: what this process counts, and what the database and the queue say of all. docs/operations.md lists them. */
import { JOB_STATUSES, WORKER_STATES } from '@ntaa/contracts';
import type { Figures } from '@ntaa/db';
import { collectDefaultMetrics, Counter, Gauge, Histogram } from 'prom-client';
import { createMeters } from '../meters.js';
import type { App, Deps } from '../types.js';

/** One number of the database's, by name. `_total` only grows. */
const FIGURES: readonly (readonly [
  name: string,
  figure: Exclude<keyof Figures, 'stages' | 'memory'>,
  help: string,
])[] = [
  [
    'ntaa_queue_oldest_job_seconds',
    'oldestJobSeconds',
    'For how long the first job has been waiting for a worker',
  ],
  [
    'ntaa_queue_oldest_dataset_seconds',
    'oldestDatasetSeconds',
    'For how long the first dataset has been validating',
  ],
  ['ntaa_outbox_waiting', 'outboxWaiting', 'Entries of the outbox that are due and not yet in the queue'],
  ['ntaa_outbox_lag_seconds', 'outboxLagSeconds', 'Age of the oldest of them'],
  ['ntaa_job_failures_total', 'failures', 'Attempts that failed, and were repeated or ended their job'],
  ['ntaa_job_attempts_total', 'attempts', 'Attempts begun'],
  ['ntaa_workers_busy', 'workers', 'Workers that hold a job'],
  ['ntaa_images_per_second', 'imagesPerSecond', 'Images trained a second, by all of them'],
  ['ntaa_lease_overdue_seconds', 'stalestLeaseSeconds', 'Since when an expired lease waits to be taken back'],
  [
    'ntaa_webhook_deliveries_pending',
    'deliveriesPending',
    'Deliveries to webhooks that are still to be made',
  ],
  ['ntaa_webhook_deliveries_failed', 'deliveriesFailed', 'Those of the last 30 days that were given up'],
  ['ntaa_webhook_oldest_seconds', 'oldestDeliverySeconds', 'Age of the oldest that is still to be made'],
  ['ntaa_compute_seconds_total', 'computeSeconds', 'Seconds for which workers have held jobs'],
  ['ntaa_garbage_objects', 'garbage', 'Objects given up and not yet deleted'],
];

export function useMetrics(app: App, { db, queue, meters }: Deps): void {
  const { registry } = meters ?? createMeters();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const durations = new Histogram({
    name: 'http_request_duration_seconds',
    help: 'Time from the request line to the end of the answer',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600],
    registers,
  });
  const depth = new Gauge({
    name: 'ntaa_queue_jobs',
    help: 'Queue jobs by name and state',
    labelNames: ['name', 'state'],
    registers,
  });
  const jobs = new Gauge({
    name: 'ntaa_jobs',
    help: 'Jobs by status, all tenants',
    labelNames: ['status'],
    registers,
  });
  const stage = { labelNames: ['kind', 'stage'], registers };
  const stageSeconds = new Counter({ name: 'ntaa_stage_seconds_total', help: 'Seconds of stages, of jobs that succeeded', ...stage }); // prettier-ignore
  const stageJobs = new Counter({
    name: 'ntaa_stage_jobs_total',
    help: 'Jobs that had that stage',
    ...stage,
  });
  const numbers = FIGURES.map(([name, figure, help]) => {
    const metric = { name, help, registers };
    return { figure, metric: name.endsWith('_total') ? new Counter(metric) : new Gauge(metric) };
  });

  const memory = new Gauge({
    name: 'ntaa_trainer_memory_bytes',
    help: 'What the engine of the largest running trainer holds in a thread: its heap, or its tensors on native engines',
    labelNames: ['kind'],
    registers,
  });

  function show(figures: Figures): void {
    for (const { kind, bytes } of figures.memory) memory.set({ kind }, bytes);
    for (const { figure, metric } of numbers) {
      metric.reset();
      metric.inc(figures[figure]);
    }
    for (const { kind, stage: name, seconds, jobs: count } of figures.stages) {
      stageSeconds.inc({ kind, stage: name }, seconds);
      stageJobs.inc({ kind, stage: name }, count);
    }
  }

  const engines = new Gauge({
    name: 'ntaa_engine_info',
    help: 'Engines of the workers that are there, and why each was chosen; always 1',
    labelNames: ['kind', 'name', 'reason'],
    registers: [registry],
  });
  const workers = new Gauge({
    name: 'ntaa_workers',
    help: 'Workers by state; stalled and silent ones do not work',
    labelNames: ['state'],
    registers,
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
    async (request, reply) => {
      // A scrape still tells of this process when what the service depends on is down.
      const [byName, byStatus, figures, running, byState] = await Promise.allSettled([
        queue.counts(),
        db.jobs.counts(),
        db.figures(),
        db.workers.engines(),
        db.workers.states(),
      ]);
      for (const asked of [byName, byStatus, figures, running, byState])
        if (asked.status === 'rejected')
          request.log.warn({ err: asked.reason as unknown }, 'metrics are incomplete');
      for (const metric of [depth, jobs, stageSeconds, stageJobs, engines, workers, memory]) metric.reset();
      if (byName.status === 'fulfilled')
        for (const [name, counts] of Object.entries(byName.value))
          for (const [state, count] of Object.entries(counts)) depth.set({ name, state }, Number(count));
      if (byStatus.status === 'fulfilled')
        for (const status of JOB_STATUSES) jobs.set({ status }, byStatus.value[status] ?? 0);
      if (figures.status === 'fulfilled') show(figures.value);
      if (running.status === 'fulfilled')
        for (const { kind, name, reason } of running.value) engines.set({ kind, name, reason }, 1);
      if (byState.status === 'fulfilled')
        for (const state of WORKER_STATES) workers.set({ state }, byState.value[state] ?? 0);
      return reply.type(registry.contentType).send(await registry.metrics());
    },
  );
}
