import type { Failure } from './protocol.js';

/** What is to become of a job whose attempt failed. `detail`: for the user. */
export interface Decision {
  readonly retry:
    | 'no'
    | 'same'
    /** With batches of half the size. */
    | 'half-batch';
  readonly detail: string;
}

/**
 * Whatever may pass is tried again as it was, until the database has counted enough failures. Memory does not grow by
 * waiting: the second attempt takes half of it for its batches, and if that is not enough either, nothing here is.
 */
export function decide(failure: Failure, earlier: readonly string[]): Decision {
  const { code, detail, retryable } = failure;
  if (code !== 'out-of-memory') return { retry: retryable ? 'same' : 'no', detail };
  if (!earlier.includes(code))
    return { retry: 'half-batch', detail: `${detail}; trying again with batches of half the size` };
  return {
    retry: 'no',
    detail: `${detail}, even with batches of half the size. Let fewer jobs run at once, or give the worker more`,
  };
}
