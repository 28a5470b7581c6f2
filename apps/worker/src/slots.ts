import type { WorkerLoad } from '@ntaa/db';
import type { Helping } from './helping.js';

/** A place for one trainer; `gpu` null: without a GPU of its own. */
interface Place {
  readonly gpu: string | null;
  user: 'job' | 'help' | Helping | null;
}

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

  /** Works in a place, which is there as long as no more jobs are asked for than there are places. `taken`: to be called whenever a job is. */
  async forJob<T>(work: (gpu: string | null, taken: () => void) => Promise<T>): Promise<T> {
    let some = false;
    const taken = (): void => {
      some = true;
      this.#since = performance.now();
    };
    const helped = (place: Place) => typeof place.user === 'object' && place.user !== null;
    const place =
      this.#places.find(({ user }) => user === null) ??
      this.#places.find((other) => helped(other) && (other.user as Helping).idle) ??
      this.#places.find(helped) ??
      this.#places.find(({ user }) => user === 'help')!;
    const { user } = place;
    place.user = 'job';
    this.look();
    try {
      if (user !== null && typeof user === 'object') await user.leave();
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

  /** A place for a helper: a free one, or that of one whose job has no more pieces. `start` null: it was not needed. */
  async forHelper(
    start: (gpu: string | null) => Promise<Helping | null>,
  ): Promise<'no place' | Helping | null> {
    const place = this.#places.find(({ user }) => user === null || (typeof user === 'object' && user.idle));
    if (!place) return 'no place';
    const { user } = place;
    place.user = 'help';
    const became = (helping: Helping | null): boolean => {
      // A job may have come meanwhile: the place is its own.
      const mine = place.user === 'help';
      if (mine) place.user = helping;
      this.look();
      return mine;
    };
    try {
      if (user !== null && typeof user === 'object') await user.leave();
      const helping = await start(place.gpu);
      if (!became(helping)) {
        await helping?.leave();
        return null;
      }
      void helping?.ended.then(() => {
        if (place.user === helping) place.user = null;
        this.look();
      });
      return helping;
    } catch (error) {
      became(null);
      throw error;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#helpers().map((helping) => helping.leave()));
  }

  #helpers(): Helping[] {
    return this.#places.flatMap(({ user }) => (user !== null && typeof user === 'object' ? [user] : []));
  }

  /** To be told when a helper has nothing more to do. */
  look(): void {
    const canHelp = this.#places.some(({ user }) => user === null || (typeof user === 'object' && user.idle));
    if (canHelp === this.#told) return;
    this.#told = canHelp;
    this.#changed(canHelp);
  }
}
