import type { Constraints, Progress, Stage } from '@ntaa/contracts';
import type { Task } from '@ntaa/tasks';
import type { Crew } from './crew.js';
import { encodeCheckpoint, type State, type Weights } from './checkpoint.js';
import { Interrupted, type Ports } from './ports.js';
import type { TargetData } from './target-data.js';

/** Least time between two checkpoints inside a stage. */
const CHECKPOINT_MS = 20_000;
const PROGRESS_MS = 500;

export type Axis = 'macs' | 'params' | 'latency_ms';

/** A job under way: what every stage shares. */
export class Run {
  readonly ports: Ports;
  /** The threads that do the work. */
  readonly crew: Crew;
  readonly data: TargetData;
  readonly task: Task;
  readonly seed: number;
  readonly constraints: Constraints;
  /** The second axis of the Pareto front. */
  readonly axis: Axis;
  readonly state: State;
  readonly weights: Weights;
  /** Work planned for the whole job and done so far, in one unit (multiply-accumulates): the source of the ETA. */
  work = { planned: 1, done: 0 };
  best: number | undefined;
  #savedAt: number;
  #toldAt = 0;
  #begun: number;
  #doneAtStart = 0;
  #speed = { images: 0, since: 0, perSecond: 0 };

  constructor(
    input: Pick<
      Run,
      'ports' | 'crew' | 'data' | 'task' | 'seed' | 'constraints' | 'axis' | 'state' | 'weights'
    >,
  ) {
    this.ports = input.ports;
    this.crew = input.crew;
    this.data = input.data;
    this.task = input.task;
    this.seed = input.seed;
    this.constraints = input.constraints;
    this.axis = input.axis;
    this.state = input.state;
    this.weights = input.weights;
    this.#savedAt = this.#begun = input.ports.now();
  }

  /** Sets what is planned and, on resuming, what is behind us. */
  expectWork(planned: number, done: number): void {
    this.work = { planned, done };
    this.#doneAtStart = done;
    this.#begun = this.ports.now();
  }

  /** Says at once that a stage has begun. */
  enter(stage: Stage, message: string): void {
    this.tell(stage, message, true);
  }

  /** Counts training work and tells progress twice a second. */
  worked(stage: Stage, macs: number, images: number, message: string): void {
    this.work.done += macs;
    const now = this.ports.now();
    this.#speed.images += images;
    if (this.#speed.since === 0) this.#speed.since = now;
    if (now - this.#speed.since > 2000) {
      this.#speed = {
        perSecond: (1000 * this.#speed.images) / (now - this.#speed.since),
        images: 0,
        since: now,
      };
    }
    this.tell(stage, message, false);
  }

  tell(stage: Stage, message: string, always: boolean): void {
    const now = this.ports.now();
    if (!always && now - this.#toldAt < PROGRESS_MS) return;
    this.#toldAt = now;
    const fraction = Math.min(0.99, this.work.done / this.work.planned);
    const gained = fraction - this.#doneAtStart / this.work.planned;
    const byRate = gained > 0.005 ? ((now - this.#begun) / 1000 / gained) * (1 - fraction) : null;
    const left =
      this.state.plan.deadline === null ? null : Math.max(0, (this.state.plan.deadline - now) / 1000);
    const progress: Progress = {
      fraction,
      eta_seconds: byRate === null ? left : left === null ? byRate : Math.min(byRate, left),
      message,
    };
    if (this.#speed.perSecond > 0) progress.images_per_second = this.#speed.perSecond;
    if (this.best !== undefined) progress.best = this.best;
    this.ports.progress(stage, progress);
  }

  /** Lets signals in. True when the user asked to stop with the best so far. Saves nothing. */
  async breathe(): Promise<boolean> {
    await new Promise((resolve) => setImmediate(resolve));
    const wanted = this.ports.wanted();
    if (wanted === 'cancel') throw new Interrupted('cancel');
    if (wanted === 'stop') this.state.cut = 'user';
    return wanted === 'stop';
  }

  get pausing(): boolean {
    return this.ports.wanted() === 'pause';
  }

  get due(): boolean {
    return this.pausing || this.ports.now() - this.#savedAt >= CHECKPOINT_MS;
  }

  /** Commits the job's whole state; afterwards leaves the job if a pause was asked for. */
  async save(): Promise<void> {
    await this.ports.checkpoint.save(encodeCheckpoint(this.state, this.weights));
    this.#savedAt = this.ports.now();
    if (this.pausing) throw new Interrupted('pause');
  }

  /** Seconds until `deadline`, infinite without one. */
  secondsLeft(deadline: number | null): number {
    return deadline === null ? Infinity : (deadline - this.ports.now()) / 1000;
  }
}
