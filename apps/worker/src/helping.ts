/** This worker's help with one job of another: a forked child that stays for the job's pieces, and their leases. */
import { setTimeout as sleep } from 'node:timers/promises';
import { killPoint } from '@ntaa/config';
import type { PieceClaim, PieceLease, PieceTaker } from '@ntaa/db';
import type { PieceSpec } from '@ntaa/adaptation';
import type { Context } from './context.js';
import { LEASE } from './job-attempt.js';
import { forkChild, type ForkedChild } from './forked.js';
import type { HelpAssignment } from './protocol.js';
import type { Scratch } from './scratch.js';

/** Most pieces are done before their lease has to be renewed, ms. */
const HEARTBEAT = 4000;

/** A child that is there saves the start of another: so long it waits for more pieces of its job, ms. */
const PATIENCE = 60_000;

/**
 * After these pauses it asks once more by itself, ms: the next round of a search comes soon after the last, and a wake-up by way of
 * the queue takes longer. Few, because it may be one of a thousand that ask.
 */
const ASKING = [50, 100, 200, 400];

/** `late`: its answer was refused. */
type PieceEnd = 'done' | 'late' | 'given-back';

export class Helping {
  readonly jobId: string;
  /** Resolves when the child is gone, and with it what it had on the disk. */
  readonly ended: Promise<void>;
  /** Resolves when it first finds nothing to do. */
  readonly first: Promise<void>;
  readonly #context: Context;
  readonly #taker: PieceTaker;
  readonly #child: ForkedChild;
  #held: PieceLease | null = null;
  #answered: (result: unknown) => void = () => undefined;
  #gone = false;
  #left = false;
  #busy = false;
  /** It has answered once. */
  #started = false;
  #rest: NodeJS.Timeout | undefined;

  /** Begins with a piece that it has claimed. `scratch`: the assignment's, removed at the end. */
  constructor(
    context: Context,
    taker: PieceTaker,
    assignment: HelpAssignment,
    claim: PieceClaim,
    scratch: Scratch,
  ) {
    this.jobId = assignment.jobId;
    this.#context = context;
    this.#taker = taker;
    this.#child = forkChild(
      assignment,
      async (message) => {
        if (message.type === 'answer') this.#answered(message.result);
        if (message.type === 'failed')
          context.log.warn(
            { job: this.jobId, failure: message.code, detail: message.detail },
            'could not help',
          );
      },
      (error) => context.log.warn({ job: this.jobId, err: error }, 'could not help'),
    );
    context.log.info({ job: this.jobId, pid: this.#child.pid }, 'helping');
    this.ended = this.#end(scratch);
    this.first = this.work(claim);
  }

  get idle(): boolean {
    return !this.#busy && !this.#gone;
  }

  /** Does pieces until there is none that it may take, beginning with one that it has. Never rejects. */
  async work(first: PieceClaim | null = null): Promise<void> {
    this.#busy = true;
    clearTimeout(this.#rest);
    const heart = setInterval(() => void this.#renew(), HEARTBEAT);
    try {
      let claim = first ?? (await this.#claim());
      while (claim) {
        if (!(await this.#traced(claim))) return;
        claim = await this.#claimSoon();
      }
    } catch (error) {
      // Whoever cannot reach the database helps nobody; leases run out by themselves.
      this.#context.log.warn({ job: this.jobId, err: error }, 'could not help');
      this.#child.kill();
    } finally {
      clearInterval(heart);
      this.#busy = false;
      this.#rest = setTimeout(() => void this.leave(), PATIENCE).unref();
    }
  }

  /** Does a piece, and says so to those who trace the service. false: the child is gone. */
  async #traced(claim: PieceClaim): Promise<boolean> {
    const span = this.#context.tracing?.start('job piece', {
      kind: 'consumer',
      parent: claim.traceparent,
      attributes: { 'ntaa.job.id': this.jobId, 'ntaa.worker': this.#context.worker },
    });
    let outcome: PieceEnd = 'given-back';
    try {
      outcome = await this.#do(claim);
    } finally {
      span?.set({ 'ntaa.piece.outcome': outcome });
      span?.end(outcome === 'done' ? undefined : outcome);
    }
    return outcome !== 'given-back';
  }

  async #do({ lease, spec }: PieceClaim): Promise<PieceEnd> {
    const { pieces } = this.#context.db;
    killPoint('worker.piece-claimed');
    this.#held = lease;
    const answer = await this.#answerTo(spec as PieceSpec);
    this.#held = null;
    this.#started = true;
    if (answer === null) {
      await pieces.release(lease, !this.#left);
      return 'given-back';
    }
    killPoint('worker.piece-answered');
    if (await pieces.complete(lease, answer.result)) return 'done';
    await pieces.late(this.jobId);
    return 'late';
  }

  /** Leaves at once, whatever it is at. */
  leave(): Promise<void> {
    this.#left = true;
    this.#child.kill();
    return this.ended;
  }

  #claim(): Promise<PieceClaim | null> {
    return this.#gone || this.#left
      ? Promise.resolve(null)
      : this.#context.db.pieces.claim(this.jobId, this.#taker, LEASE);
  }

  async #claimSoon(): Promise<PieceClaim | null> {
    let claim = await this.#claim();
    for (const pause of ASKING) {
      if (claim || this.#gone || this.#left) break;
      await sleep(pause);
      claim = await this.#claim();
    }
    return claim;
  }

  /** null: the child is gone. */
  #answerTo(spec: PieceSpec): Promise<{ result: unknown } | null> {
    if (this.#gone || this.#left) return Promise.resolve(null);
    const answered = new Promise<{ result: unknown }>((resolve) => {
      this.#answered = (result) => resolve({ result });
    });
    this.#child.give(spec);
    return Promise.race([answered, this.#child.ended.then(() => null)]);
  }

  async #renew(): Promise<void> {
    const held = this.#held;
    if (!held) return;
    const kept = await this.#context.db.pieces.renew(held, LEASE).catch(() => true);
    // Its answer will be refused. One that is still starting is let go on, for the pieces after this one.
    if (!kept && this.#held === held && this.#started) this.#child.kill();
  }

  async #end(scratch: Scratch): Promise<void> {
    const { stderr, killed } = await this.#child.ended;
    this.#gone = true;
    await scratch.remove().catch((error: unknown) => {
      this.#context.log.warn({ job: this.jobId, err: error }, 'a scratch folder stays until the next start');
    });
    this.#context.log.info({ job: this.jobId, ...(!killed && { stderr }) }, 'helped');
  }
}
