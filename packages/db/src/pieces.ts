/**
 * Parts of a running job's work. The job's own worker offers them, and does them in their order as long as nobody else
 * does; helpers hold theirs by leases. A piece's id is a hash of all that its result depends on, so that an attempt that
 * offers it again finds the result an earlier one has got. They go when the job ends.
 */
import { randomUUID } from 'node:crypto';
import type { JobRequest } from '@ntaa/contracts';
import type { Client, Tx } from './client.js';
import type { Direct } from './direct.js';
import { discard, piecesFolder } from './garbage.js';
import { LeaseLost, type FinishedPiece, type Pieces } from './types.js';

/** A piece that failed so often under helpers is its own worker's to try: if it cannot either, the job hears why. */
const HELPED = 2;
/** An attempt that lost its lease, or a helper that was killed, may just have stored an object: it is looked for once more, s. */
const LATE_OBJECTS = 600;

export function pieces(sql: Direct): Pieces {
  return {
    async offer(lease, offered, wake) {
      // A wake-up that nobody has taken yet tells of these pieces, too; new names, because an old one may be just ending.
      const entry = { payload: JSON.stringify({ job_id: lease.jobId }), name: randomUUID().slice(0, 8) };
      const [held] = await sql.$queryRaw<{ tenant: string }[]>`
        WITH job AS (
          SELECT id, tenant_id FROM jobs
          WHERE id = ${lease.jobId} AND lease_token = ${lease.token} AND lease_until > now() FOR SHARE
        ), before AS (
          SELECT coalesce(max(position), 0) AS n FROM pieces WHERE job_id = ${lease.jobId}
        ), made AS (
          INSERT INTO pieces (job_id, tenant_id, id, position, engine, spec, traceparent)
          SELECT job.id, job.tenant_id, p->>'id', before.n + t.n, p->>'engine', p->'spec', p->>'traceparent'
          FROM job, before, json_array_elements(${JSON.stringify(offered)}::json) WITH ORDINALITY AS t(p, n)
          ON CONFLICT (job_id, id) DO NOTHING
        ), woken AS (
          INSERT INTO outbox (tenant_id, name, payload, dedupe)
          SELECT tenant_id, 'job.help', ${entry.payload}::jsonb, id || '-help-' || ${entry.name} || '-' || k
          FROM job, generate_series(1, ${wake}::int) AS k
        )
        SELECT tenant_id AS tenant FROM job`;
      if (!held) throw new LeaseLost(lease);
    },

    async next(lease, { wanted, finished, impatient }) {
      const [found] = await sql.$queryRaw<
        { held: boolean; taken: string | null; done: FinishedPiece[] | null }[]
      >`
        WITH job AS (
          SELECT id FROM jobs
          WHERE id = ${lease.jobId} AND lease_token = ${lease.token} AND lease_until > now()
        ), finished AS (
          UPDATE pieces SET result = f->'result', lease_token = NULL, lease_until = NULL
          FROM job, json_array_elements(${JSON.stringify(finished)}::json) AS f
          WHERE job_id = job.id AND pieces.id = f->>'id' AND result IS NULL AND lease_token = ${lease.token}
        ), taken AS (
          UPDATE pieces SET lease_token = ${lease.token}, lease_until = 'infinity', worker = NULL, claimed_at = now()
          WHERE (job_id, id) = (
            SELECT p.job_id, p.id FROM job JOIN pieces p ON p.job_id = job.id
            WHERE p.id = ANY(${wanted}::text[]) AND p.result IS NULL
              AND (p.lease_until IS NULL OR p.lease_until < now()
                OR (p.lease_token <> ${lease.token} AND (p.lease_until = 'infinity' OR ${impatient}::bool)))
            ORDER BY p.lease_until IS NOT NULL, p.position LIMIT 1 FOR UPDATE OF p SKIP LOCKED)
          RETURNING id
        )
        SELECT EXISTS (SELECT FROM job) AS held, (SELECT id FROM taken) AS taken,
          (SELECT json_agg(json_build_object('id', id, 'result', result)) FROM pieces
            WHERE job_id = ${lease.jobId} AND id = ANY(${wanted}::text[]) AND result IS NOT NULL) AS done`;
      if (!found!.held) throw new LeaseLost(lease);
      return { taken: found!.taken, done: found!.done ?? [] };
    },

    async withdraw(lease) {
      await sql.$queryRaw`
        DELETE FROM pieces USING jobs WHERE jobs.id = pieces.job_id AND jobs.id = ${lease.jobId}
          AND jobs.lease_token = ${lease.token} AND pieces.result IS NULL`;
    },

    async claim(jobId, { worker, engine, otherHostThan }, leaseMs) {
      const token = randomUUID();
      const [piece] = await sql.$queryRaw<{ id: string; spec: unknown; traceparent: string | null }[]>`
        UPDATE pieces SET lease_token = ${token}, worker = ${worker}, claimed_at = now(),
          lease_until = now() + ${leaseMs} * interval '1 millisecond',
          failures = failures + (lease_until IS NOT NULL)::int
        WHERE (job_id, id) = (
          SELECT p.job_id, p.id FROM jobs JOIN pieces p ON p.job_id = jobs.id
          WHERE jobs.id = ${jobId} AND jobs.status = 'running' AND p.result IS NULL AND p.engine = ${engine}
            AND (p.lease_until IS NULL OR p.lease_until < now()) AND p.failures < ${HELPED}
            AND regexp_replace(jobs.worker, '-[0-9]+$', '') IS DISTINCT FROM ${otherHostThan}
          ORDER BY p.position LIMIT 1 FOR UPDATE OF p SKIP LOCKED)
        RETURNING id, spec, traceparent`;
      if (!piece) return null;
      const { id, spec, traceparent } = piece;
      return { lease: { jobId, id, token }, spec, traceparent };
    },

    async renew({ jobId, id, token }, leaseMs) {
      const held = await sql.$queryRaw<unknown[]>`
        UPDATE pieces SET lease_until = now() + ${leaseMs} * interval '1 millisecond'
        WHERE job_id = ${jobId} AND id = ${id} AND lease_token = ${token} AND lease_until > now() RETURNING 1`;
      return held.length > 0;
    },

    async complete({ jobId, id, token }, result) {
      const held = await sql.$queryRaw<unknown[]>`
        UPDATE pieces SET result = ${JSON.stringify(result)}::json, lease_token = NULL, lease_until = NULL,
          seconds = seconds + extract(epoch FROM now() - claimed_at)
        WHERE job_id = ${jobId} AND id = ${id} AND lease_token = ${token} AND lease_until > now() RETURNING 1`;
      return held.length > 0;
    },

    async release({ jobId, id, token }, failed) {
      await sql.$queryRaw`
        WITH given_back AS (
          UPDATE pieces SET lease_token = NULL, lease_until = NULL, failures = failures + ${failed ? 1 : 0},
            seconds = seconds + extract(epoch FROM now() - claimed_at)
          WHERE job_id = ${jobId} AND id = ${id} AND lease_token = ${token} RETURNING tenant_id
        )
        INSERT INTO outbox (tenant_id, name, payload, dedupe)
        SELECT tenant_id, 'job.help', ${JSON.stringify({ job_id: jobId })}::jsonb, ${`${jobId}-help-${token}`}
        FROM given_back`;
    },

    async job(id) {
      const [job] = await sql.$queryRaw<{ tenant: string; request: JobRequest }[]>`
        SELECT tenant_id AS tenant, request FROM jobs WHERE id = ${id}`;
      return job ?? null;
    },

    async late(jobId) {
      await sql.$queryRaw`
        INSERT INTO garbage (key) SELECT ${piecesFolder(jobId)}
        WHERE NOT EXISTS (
          SELECT FROM jobs WHERE id = ${jobId} AND status NOT IN ('cancelled', 'succeeded', 'failed'))
        ON CONFLICT (key) DO UPDATE SET due = now()`;
    },
  };
}

/** The end of a job's pieces. What helpers worked is its tenant's compute, like the time for which the job was held. */
export async function dropPieces(tx: Tx | Client, jobId: string): Promise<void> {
  const [dropped] = await tx.$queryRaw<{ pieces: number }[]>`
    WITH gone AS (
      DELETE FROM pieces WHERE job_id = ${jobId} RETURNING tenant_id, seconds
    ), counted AS (
      INSERT INTO compute_usage AS u (tenant_id, day, seconds)
      SELECT tenant_id, (now() AT TIME ZONE 'UTC')::date, sum(seconds) FROM gone GROUP BY tenant_id HAVING sum(seconds) > 0
      ON CONFLICT (tenant_id, day) DO UPDATE SET seconds = u.seconds + EXCLUDED.seconds
    )
    SELECT count(*)::int AS pieces FROM gone`;
  if (dropped!.pieces > 0) await discard(tx, [piecesFolder(jobId)], LATE_OBJECTS);
}
