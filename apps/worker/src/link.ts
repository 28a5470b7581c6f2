/** The child's end of the line to its supervisor. */
import type { PieceSpec } from '@ntaa/adaptation';
import type { Candidate, JobFailureCode, Progress, Stage } from '@ntaa/contracts';
import { JOB_FAILURES } from '@ntaa/contracts';
import type { Checkpoint, NewEvent, Wanted } from '@ntaa/db';
import type {
  Assignment,
  ChildMessage,
  DatasetOutcome,
  JobOutcome,
  Outcome,
  ParentMessage,
  PieceQuestion,
} from './protocol.js';

/** What the work in a child can tell its supervisor. Messages arrive in the order they were sent. */
export interface Link<O extends Outcome = Outcome> {
  /** Fire and forget; the supervisor writes at most two a second, and every change of stage. */
  progress(stage: Stage, progress: Progress): void;
  events(events: readonly NewEvent[]): void;
  /** Inserts or replaces by genotype. */
  candidates(records: readonly Candidate[]): void;
  /** Commits an object that is already in the store as checkpoint; resolves after the commit. */
  checkpoint(checkpoint: Checkpoint): Promise<void>;
  /**
   * What the user wants, as last heard. Messages are only heard when the event loop turns, so long computations
   * await a setImmediate regularly.
   */
  wanted(): Wanted;
  /** Asks about pieces of the job's work; resolves with the answer. */
  pieces(question: PieceQuestion): Promise<unknown>;
  /** Hands in the outcome; resolves after the commit, rejects when it is refused. Nothing may be sent afterwards. */
  done(outcome: O): Promise<void>;
  /** Ends the attempt as failed; resolves after the commit. Whether it is tried again follows from the code. */
  failed(code: JobFailureCode, detail: string): Promise<void>;
}
export type JobLink = Link<JobOutcome>;
export type DatasetLink = Link<DatasetOutcome>;

type Channel = Pick<NodeJS.Process, 'send' | 'on'>;
type Request = Extract<ChildMessage, { id: number }>;

/** Link over `process`. `assignment` resolves with the supervisor's first message. */
export class IpcLink implements Link {
  readonly assignment: Promise<Assignment>;
  readonly #channel: Channel;
  readonly #waiting = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void }
  >();
  /** Pieces that came before they were asked for, and who asked before one came. */
  readonly #pieces: PieceSpec[] = [];
  #wantsPiece: ((spec: PieceSpec) => void) | undefined;
  #wanted: Wanted = 'run';
  #next = 1;

  constructor(channel: Channel) {
    this.#channel = channel;
    let started: (assignment: Assignment) => void;
    this.assignment = new Promise((resolve) => (started = resolve));
    channel.on('message', (raw) => {
      const message = raw as ParentMessage;
      if (message.type === 'start') {
        if (message.assignment.kind === 'job') this.#wanted = message.assignment.wanted;
        started(message.assignment);
      } else if (message.type === 'signal') this.#wanted = message.action;
      else if (message.type === 'piece') this.#given(message.spec);
      else this.#acknowledged(message);
    });
  }

  #given(spec: PieceSpec): void {
    if (this.#wantsPiece) this.#wantsPiece(spec);
    else this.#pieces.push(spec);
    this.#wantsPiece = undefined;
  }

  #acknowledged(message: Extract<ParentMessage, { type: 'ack' }>): void {
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.ok) waiting?.resolve(message.value);
    else waiting?.reject(new Error(message.error ?? 'The supervisor refused'));
  }

  #send(message: ChildMessage): void {
    this.#channel.send?.(message);
  }

  #ask(request: DistributiveOmit<Request, 'id'>): Promise<unknown> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#send({ ...request, id });
    });
  }

  progress(stage: Stage, progress: Progress): void {
    this.#send({ type: 'progress', stage, progress });
  }
  events(events: readonly NewEvent[]): void {
    if (events.length > 0) this.#send({ type: 'events', events });
  }
  candidates(records: readonly Candidate[]): void {
    if (records.length > 0) this.#send({ type: 'candidates', records });
  }
  async checkpoint(checkpoint: Checkpoint): Promise<void> {
    await this.#ask({ type: 'checkpoint', checkpoint });
  }
  pieces(question: PieceQuestion): Promise<unknown> {
    return this.#ask({ type: 'pieces', question });
  }
  /** The next piece for this helper. */
  piece(): Promise<PieceSpec> {
    const spec = this.#pieces.shift();
    return spec ? Promise.resolve(spec) : new Promise((resolve) => (this.#wantsPiece = resolve));
  }
  /** Hands in the result of the piece that was given last. */
  answer(result: unknown): void {
    this.#send({ type: 'answer', result });
  }
  wanted(): Wanted {
    return this.#wanted;
  }
  async done(outcome: Outcome): Promise<void> {
    await this.#ask({ type: 'done', outcome });
  }
  async failed(code: JobFailureCode, detail: string): Promise<void> {
    await this.#ask({ type: 'failed', code, detail, retryable: JOB_FAILURES[code].retryable });
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
