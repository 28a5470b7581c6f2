import type { Client } from './client.js';
import type { Figures } from './types.js';

/** Everything an operator asks of all tenants together, in three statements. */
export async function figures(db: Client): Promise<Figures> {
  const rows = await db.$queryRaw<Omit<Figures, 'stages' | 'memory'>[]>`
    SELECT
      coalesce((SELECT extract(epoch FROM now() - min(queued_at)) FROM jobs
        WHERE status = 'queued' AND queued_at <= now()), 0)::float8 AS "oldestJobSeconds",
      coalesce((SELECT extract(epoch FROM now() - min(created_at)) FROM datasets
        WHERE status = 'validating'), 0)::float8 AS "oldestDatasetSeconds",
      o.waiting::float8 AS "outboxWaiting", coalesce(o.lag, 0)::float8 AS "outboxLagSeconds",
      coalesce(j.failures, 0)::float8 AS "failures", coalesce(j.attempts, 0)::float8 AS "attempts",
      j.workers::float8 AS "workers", coalesce(j.speed, 0)::float8 AS "imagesPerSecond",
      coalesce(j.age, 0)::float8 AS "stalestLeaseSeconds",
      w.pending::float8 AS "deliveriesPending", w.failed::float8 AS "deliveriesFailed",
      coalesce(w.age, 0)::float8 AS "oldestDeliverySeconds",
      coalesce((SELECT sum(seconds) FROM compute_usage), 0)::float8 AS "computeSeconds",
      (SELECT count(*) FROM garbage WHERE due < now())::float8 AS "garbage"
    FROM
      (SELECT count(*) AS waiting, extract(epoch FROM now() - min(coalesce(due, created_at))) AS lag
        FROM outbox WHERE dispatched_at IS NULL AND (due IS NULL OR due <= now())) AS o,
      (SELECT sum(failures_total) AS failures, sum(attempt) AS attempts,
          count(DISTINCT worker) FILTER (WHERE lease_token IS NOT NULL) AS workers,
          sum((progress->>'images_per_second')::float8) FILTER (WHERE lease_token IS NOT NULL) AS speed,
          extract(epoch FROM now() - min(lease_until) FILTER (WHERE lease_until < now())) AS age
        FROM jobs) AS j,
      (SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
          count(*) FILTER (WHERE status = 'failed') AS failed,
          extract(epoch FROM now() - min(created_at) FILTER (WHERE status = 'pending')) AS age
        FROM webhook_deliveries) AS w`;
  const stages = await db.$queryRaw<Figures['stages'][number][]>`
    SELECT j.kind, s.stage, sum(s.seconds::float8) AS seconds, count(*)::float8 AS jobs
    FROM jobs j, jsonb_each_text(j.result->'seconds') AS s(stage, seconds)
    WHERE jsonb_typeof(j.result->'seconds') = 'object' GROUP BY j.kind, s.stage`;
  const memory = await db.$queryRaw<Figures['memory'][number][]>`
    SELECT coalesce(w.engine->>'kind', 'unknown') AS kind, max((j.progress->>'memory_bytes')::float8) AS bytes
    FROM jobs j LEFT JOIN workers w ON w.id = j.worker
    WHERE j.lease_token IS NOT NULL AND j.progress ? 'memory_bytes' GROUP BY 1`;
  return { ...rows[0]!, stages, memory };
}
