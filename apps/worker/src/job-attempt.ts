/** One attempt at a job: a forked trainer, its lease kept, its messages written down, its end recorded. */
import { killPoint } from '@ntaa/config';
import type { JobStatus } from '@ntaa/contracts';
import { JOB_FAILURES, JobError } from '@ntaa/contracts';
import { LeaseLost, type Claim, type Wanted } from '@ntaa/db';
import type { AttemptTrace } from './attempt-trace.js';
import type { Context } from './context.js';
import { forkChild, type ForkedChild } from './forked.js';
import { answerPieces, wakeHelpers } from './offers.js';
import { ProgressWriter } from './progress-writer.js';
import { decide } from './retry.js';
import type { ChildMessage, Failure, JobAssignment, JobOutcome } from './protocol.js';

/** Milliseconds. A lease outlives a missed heartbeat or two; a lost worker's job waits this long for another. */
export const LEASE = 15_000;
const HEARTBEAT = 1000;
/** How long a trainer may take to obey before it is killed, ms. To stop it finishes, evaluates and exports. */
const GRACE: Record<Exclude<Wanted, 'run'>, number> = { stop: 180_000, pause: 60_000, cancel: 3000 };
/** The same when this worker itself has to end. */
const SHUTDOWN_GRACE = 6000;

/** The job's status afterwards; `lost`: somebody else's to decide, nothing was written. */
export type AttemptEnd = JobStatus | 'lost';

export async function attemptJob(
  context: Context,
  claim: Claim,
  assignment: JobAssignment,
  trace: AttemptTrace,
  shutdown: AbortSignal,
): Promise<AttemptEnd> {
  const attempt = new Attempt(context, claim, assignment, trace);
  return attempt.run(shutdown);
}

class Attempt {
  readonly #context: Context;
  readonly #claim: Claim;
  readonly #trace: AttemptTrace;
  readonly #child: ForkedChild;
  readonly #progress: ProgressWriter;
  /** What the user wants, and what the trainer was last told. */
  #wanted: Wanted;
  #told: { wanted: Wanted; hurry: boolean };
  #shuttingDown = false;
  #grace: NodeJS.Timeout | undefined;
  #renewedAt = Date.now();
  #concluded: JobStatus | undefined;
  #failure: Failure | undefined;
  #finishing = false;
  #lost = false;

  constructor(context: Context, claim: Claim, assignment: JobAssignment, trace: AttemptTrace) {
    this.#context = context;
    this.#claim = claim;
    this.#trace = trace;
    this.#wanted = claim.wanted;
    this.#told = { wanted: claim.wanted, hurry: false };
    this.#progress = new ProgressWriter(
      (stage, progress) => context.db.jobs.progress(claim.lease, stage, progress),
      (error) => this.#refused(error),
    );
    this.#child = forkChild(
      assignment,
      (message) => this.#handle(message),
      (error) => this.#refused(error),
    );
  }

  async run(shutdown: AbortSignal): Promise<AttemptEnd> {
    const { log } = this.#context;
    const { jobId: job, attempt } = this.#claim.lease;
    log.info({ job, attempt, pid: this.#child.pid }, 'job attempt started');
    wakeHelpers(this.#context, this.#claim, this.#trace.here).catch((error: unknown) => {
      // Then they start when there is something to do.
      log.warn({ job, err: error }, 'could not wake helpers');
    });
    const onShutdown = (): void => {
      this.#shuttingDown = true;
      this.#tell();
    };
    shutdown.addEventListener('abort', onShutdown);
    if (shutdown.aborted) onShutdown();
    const heart = setInterval(() => void this.#renew(), HEARTBEAT);
    const end = await this.#child.ended;
    clearInterval(heart);
    clearTimeout(this.#grace);
    shutdown.removeEventListener('abort', onShutdown);
    await this.#progress.discard();
    const status = await this.#conclude(this.#failure ?? end.failure);
    log.info({ job, attempt, status }, 'job attempt ended');
    if (this.#concluded === undefined && !end.killed)
      log.error(
        { job, attempt, failure: this.#failure ?? end.failure, stderr: end.stderr },
        'trainer failed',
      );
    return status;
  }

  async #handle(message: ChildMessage): Promise<unknown> {
    const { db } = this.#context;
    const { lease } = this.#claim;
    switch (message.type) {
      case 'progress':
        this.#trace.stage(message.stage);
        return this.#progress.put(message.stage, message.progress);
      case 'events':
        return db.jobs.appendEvents(lease, message.events);
      case 'candidates':
        return db.jobs.putCandidates(lease, message.records);
      case 'checkpoint':
        await db.jobs.commitCheckpoint(lease, message.checkpoint);
        return killPoint('worker.checkpoint-recorded');
      case 'pieces':
        return answerPieces(this.#context, lease, message.question, this.#trace.here);
      case 'done':
        await this.#progress.settle();
        return this.#done(message.outcome as JobOutcome);
      case 'failed':
        this.#failure = message;
        return;
      case 'answer':
        throw new Error('A trainer answered as a helper does');
    }
  }

  async #done(outcome: JobOutcome): Promise<void> {
    const { db } = this.#context;
    const { lease } = this.#claim;
    // What ends the attempt ends its lease: a heartbeat in between would find it lost.
    this.#finishing = true;
    try {
      if (outcome.status === 'succeeded') {
        this.#concluded = await db.jobs.succeed(lease, outcome.success);
        killPoint('worker.job-succeeded');
      } else if (outcome.status === 'paused') this.#concluded = await db.jobs.release(lease);
      else {
        await db.jobs.cancelled(lease);
        this.#concluded = 'cancelled';
      }
    } finally {
      this.#finishing = false;
    }
  }

  get #over(): boolean {
    return this.#finishing || this.#concluded !== undefined;
  }

  async #renew(): Promise<void> {
    if (this.#over) return;
    try {
      this.#wanted = await this.#context.db.jobs.renew(this.#claim.lease, LEASE);
      this.#renewedAt = Date.now();
      this.#tell();
    } catch (error) {
      if (this.#over) return;
      if (error instanceof LeaseLost || Date.now() - this.#renewedAt > LEASE) this.#refused(error);
      else
        this.#context.log.warn(
          { job: this.#claim.lease.jobId, err: error },
          'lease not renewed, trying again',
        );
    }
  }

  /** Tells the trainer what is wanted when that has changed, and kills it when it does not obey in time. */
  #tell(): void {
    const wanted = this.#wanted === 'run' && this.#shuttingDown ? 'pause' : this.#wanted;
    const hurry = this.#shuttingDown;
    if (wanted === this.#told.wanted && hurry === this.#told.hurry) return;
    this.#told = { wanted, hurry };
    this.#child.signal(wanted);
    clearTimeout(this.#grace);
    if (wanted === 'run') return;
    const grace = hurry ? Math.min(SHUTDOWN_GRACE, GRACE[wanted]) : GRACE[wanted];
    this.#grace = setTimeout(() => this.#child.kill(), grace);
  }

  /** A write was refused: without the lease nothing may go on; what else it was is a failure of this attempt. */
  #refused(error: unknown): void {
    if (error instanceof LeaseLost || Date.now() - this.#renewedAt > LEASE) this.#lost = true;
    else
      this.#failure ??= {
        code: 'internal',
        detail: 'What the job had done could not be recorded',
        retryable: true,
      };
    this.#context.log.error(
      { job: this.#claim.lease.jobId, err: error, lost: this.#lost },
      'job attempt given up',
    );
    this.#child.kill();
  }

  /** Records the end of an attempt whose trainer is gone. */
  async #conclude(failure: Failure): Promise<AttemptEnd> {
    const { db } = this.#context;
    const { lease } = this.#claim;
    if (this.#concluded !== undefined) return this.#concluded;
    if (this.#lost) return 'lost';
    try {
      // The user's wish first, taken fresh: a cancel may have come in the trainer's last second.
      this.#wanted = await db.jobs.renew(lease, LEASE);
      if (this.#wanted === 'cancel') {
        await db.jobs.cancelled(lease);
        return 'cancelled';
      }
      const asked = this.#wanted === 'pause' || this.#shuttingDown;
      if (asked && this.#failure === undefined) return await db.jobs.release(lease);
      this.#trace.failed(failure.code);
      const { retry, detail } = decide(failure, this.#claim.failures);
      return await db.jobs.fail(lease, { code: failure.code, detail }, retry !== 'no');
    } catch (error) {
      if (error instanceof LeaseLost) return 'lost';
      throw error;
    }
  }
}

/** An error of preparing an attempt, as the failure it is recorded as. */
export function asFailure(error: unknown): Failure {
  if (error instanceof JobError)
    return { code: error.code, detail: error.message, retryable: JOB_FAILURES[error.code].retryable };
  return {
    code: 'internal',
    detail: 'Something went wrong on our side while preparing the job',
    retryable: true,
  };
}
