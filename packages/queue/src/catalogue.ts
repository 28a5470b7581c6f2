import type { QueueJobName } from '@ntaa/contracts';

/** How one kind of queue job is run. */
export interface JobRule {
  /** A handler still busy after so many milliseconds has its signal aborted and the attempt fails; null: no limit. */
  readonly timeoutMs: number | null;
  /** Runs in all, the first included. */
  readonly attempts: number;
  /** Milliseconds before the second run, doubling after. */
  readonly backoffMs: number;
}

/**
 * Every queue job there is. Their retries cover what happens before the handler has taken the work over in the
 * database (a lost connection); whoever claimed it there is found by the reaper and reconciler.
 */
export const CATALOGUE: Readonly<Record<QueueJobName, JobRule>> = {
  'dataset.validate': { timeoutMs: 2 * 3600_000, attempts: 3, backoffMs: 2000 },
  // A training job has its own budget, kept by its trainer.
  'job.run': { timeoutMs: null, attempts: 3, backoffMs: 2000 },
  // One that is lost costs time and nothing else: the job's own worker does what nobody takes.
  'job.help': { timeoutMs: null, attempts: 3, backoffMs: 2000 },
  // A receiver that does not answer is tried again by way of the outbox, hours later if need be.
  'webhook.deliver': { timeoutMs: 60_000, attempts: 3, backoffMs: 2000 },
};
