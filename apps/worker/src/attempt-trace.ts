import type { Stage } from '@ntaa/contracts';
import type { Claim } from '@ntaa/db';
import type { Span } from '@ntaa/tracing';
import type { Context } from './context.js';
import type { AttemptEnd } from './job-attempt.js';

/**
 * An attempt at a job, for those who trace the service: a span in the trace of the request that made the job, and in it one for
 * each stage. The supervisor keeps them, so that they are told whatever becomes of the trainer.
 */
export class AttemptTrace {
  readonly #tracing: Context['tracing'];
  readonly #attempt: Span | undefined;
  #stage: { readonly name: Stage; readonly span: Span } | undefined;
  #failure: string | undefined;

  constructor({ tracing, worker }: Pick<Context, 'tracing' | 'worker'>, claim: Claim) {
    const { lease, request, traceparent } = claim;
    this.#tracing = tracing;
    this.#attempt = tracing?.start('job attempt', {
      kind: 'consumer',
      parent: traceparent,
      attributes: {
        'ntaa.job.id': lease.jobId,
        'ntaa.job.attempt': lease.attempt,
        'ntaa.job.kind': request.kind,
        'ntaa.job.task': request.kind === 'adapt' ? request.task : undefined,
        'ntaa.worker': worker,
      },
    });
  }

  get id(): string | undefined {
    return this.#attempt?.traceId;
  }

  /** What others do for it just now is part of this. */
  get here(): string | null {
    return (this.#stage?.span ?? this.#attempt)?.traceparent ?? null;
  }

  /** It is in this stage, be it as before. */
  stage(name: Stage): void {
    if (!this.#tracing || !this.#attempt || name === this.#stage?.name) return;
    this.#stage?.span.end();
    this.#stage = { name, span: this.#tracing.start(name, { parent: this.#attempt.traceparent }) };
  }

  /** Why the attempt will have ended. */
  failed(code: string): void {
    this.#failure = code;
  }

  end(outcome: AttemptEnd): void {
    const failure = outcome === 'lost' ? 'lease-lost' : this.#failure;
    this.#stage?.span.end(failure);
    this.#attempt?.set({ 'ntaa.job.outcome': outcome });
    this.#attempt?.end(failure);
  }
}
