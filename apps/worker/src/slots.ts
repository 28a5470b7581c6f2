import type { WorkerLoad } from '@ntaa/db';
import { Helping } from './helping.js';

/** A place for one trainer; `gpu` null: without a GPU of its own. `user`: a symbol is a helper that is being started. */
interface Place {
  readonly gpu: string | null;
  user: 'job' | symbol | Helping | null;
}

const isIdle = ({ user }: Place): boolean => user instanceof Helping && user.idle;

/** Places for trainers. Jobs come first: where no place is free, a helper leaves its own to a job. */
export class Slots {
  readonly #places: Place[];
  /** Told whenever it changes whether somebody could help. */
  readonly #changed: (canHelp: boolean) => void;
  #told = true;
  /** When it last took a job, or had another place free again. */
  #since = performance.now();

  constructor(gpus: readonly string[], changed: (canHelp: boolean) => void) {
    this.#places = (gpus.length > 0 ? gpus : [null]).map((gpu) => ({ gpu, user: null }));
    this.#changed = changed;
  }

  get size(): number {
    return this.#places.length;
  }

  /** For the database. Milliseconds by a clock that nobody sets. A helper's place is free: it leaves it to a job. */
  get load(): WorkerLoad {
    const free = this.#places.filter(({ user }) => user !== 'job').length;
    return { slots: this.size, free, idleMs: free > 0 ? performance.now() - this.#since : null };
  }

  /**
   * Works in a place. There is one as long as no more jobs are asked for than there are places. `taken`: to be called
   * whenever a job is.
   */
  async forJob<T>(work: (gpu: string | null, taken: () => void) => Promise<T>): Promise<T> {
    let some = false;
    const taken = (): void => {
      some = true;
      this.#since = performance.now();
    };
    const place = this.#spare() ?? this.#places.find(({ user }) => user !== 'job')!;
    const before = place.user;
    place.user = 'job';
    this.look();
    try {
      if (before instanceof Helping) await before.leave();
      return await work(place.gpu, taken);
    } finally {
      place.user = null;
      // Whoever woke up for nothing has taken nothing.
      if (some) this.#since = performance.now();
      this.look();
    }
  }

  /** The helper of this job that has nothing to do. */
  idleHelper(jobId: string): Helping | undefined {
    return this.#helpers().find((helping) => helping.jobId === jobId && helping.idle);
  }

  /** Starts a helper in a place that is free, or whose helper is idle. null: `start` found that there is nothing to do. */
  async forHelper(
    start: (gpu: string | null) => Promise<Helping | null>,
  ): Promise<'no place' | Helping | null> {
    const place = this.#spare();
    if (!place) return 'no place';
    const before = place.user;
    const starting = Symbol('a helper that is being started');
    place.user = starting;
    let helping: Helping | null = null;
    try {
      if (before instanceof Helping) await before.leave();
      helping = await start(place.gpu);
    } finally {
      if (place.user === starting) place.user = helping;
      this.look();
    }
    if (helping === null) return null;
    // A job has come meanwhile.
    if (place.user !== helping) await helping.leave();
    void helping.ended.then(() => {
      if (place.user === helping) place.user = null;
      this.look();
    });
    return helping;
  }

  async close(): Promise<void> {
    await Promise.all(this.#helpers().map((helping) => helping.leave()));
  }

  /** To be told when a helper has nothing more to do. */
  look(): void {
    const canHelp = this.#spare() !== undefined;
    if (canHelp === this.#told) return;
    this.#told = canHelp;
    this.#changed(canHelp);
  }

  #spare(): Place | undefined {
    return this.#places.find(({ user }) => user === null) ?? this.#places.find(isIdle);
  }

  #helpers(): Helping[] {
    return this.#places.flatMap(({ user }) => (user instanceof Helping ? [user] : []));
  }
}
