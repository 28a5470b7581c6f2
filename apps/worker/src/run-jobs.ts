import { setTimeout as sleep } from 'node:timers/promises';
import { killPoint } from '@ntaa/config';
import type { Claim } from '@ntaa/db';
import { assemble, type Place } from './assemble.js';
import { AttemptTrace } from './attempt-trace.js';
import type { Context } from './context.js';
import { asFailure, attemptJob, LEASE, type AttemptEnd } from './job-attempt.js';
import type { JobAssignment } from './protocol.js';
import { withScratch } from './scratch.js';

/** Pause before the next attempt after a first failure, ms. Later ones pause longer: the database says how long. */
const RETRY_PAUSE = 1000;

/**
 * Handler of `job.run`, which says that some job waits: attempts the one whose turn it is, on this GPU, until it has ended, is
 * paused, or belongs to somebody else.
 */
export async function runJobs(
  context: Context & { readonly taken: () => void },
  gpu: string | null,
  shutdown: AbortSignal,
): Promise<void> {
  while (!shutdown.aborted) {
    const claim = await context.db.jobs.claim(null, context.worker, LEASE);
    if (claim === null) return;
    context.taken();
    killPoint('worker.lease-claimed');
    const end = await withScratch(context.scratch, (scratch) =>
      attempt(context, claim, { scratch, gpu }, shutdown),
    );
    if (end === 'lost') await context.db.jobs.lost(claim.lease);
    if (end !== 'queued' && end !== 'stopping') return;
    // Tried again soon, by whoever is free: this one, for instance. What the queue says of it comes while it still pauses.
    await sleep(RETRY_PAUSE, undefined, { signal: shutdown }).catch(() => undefined);
  }
}

async function attempt(
  context: Context,
  claim: Claim,
  place: Place,
  shutdown: AbortSignal,
): Promise<AttemptEnd> {
  const trace = new AttemptTrace(context, claim);
  // What is logged of it can be found by its trace.
  const log = trace.id === undefined ? context.log : context.log.child({ trace_id: trace.id });
  let end: AttemptEnd = 'lost';
  try {
    end = await tryJob({ ...context, log }, claim, place, trace, shutdown);
    return end;
  } finally {
    trace.end(end);
  }
}

async function tryJob(
  context: Context,
  claim: Claim,
  place: Place,
  trace: AttemptTrace,
  shutdown: AbortSignal,
): Promise<AttemptEnd> {
  let assignment: JobAssignment;
  try {
    assignment = await assemble(context, claim, place);
  } catch (error) {
    context.log.error({ job: claim.lease.jobId, err: error }, 'a job could not be prepared');
    const { code, detail, retryable } = asFailure(error);
    trace.failed(code);
    return context.db.jobs.fail(claim.lease, { code, detail }, retryable);
  }
  return attemptJob(context, claim, assignment, trace, shutdown);
}
