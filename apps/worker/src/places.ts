import type { WorkerLoad } from '@ntaa/db';

/** The places in which a worker's jobs run: one for each GPU, or one. It knows how long it could have taken another job. */
export class Places {
  readonly #free: (string | null)[];
  readonly #slots: number;
  /** When it last took a job, or had another place free again. */
  #since = performance.now();

  constructor(gpus: readonly string[]) {
    this.#free = gpus.length > 0 ? [...gpus] : [null];
    this.#slots = this.#free.length;
  }

  get slots(): number {
    return this.#slots;
  }

  /** For the database. Milliseconds by a clock that nobody sets. */
  get load(): WorkerLoad {
    const free = this.#free.length;
    return { slots: this.#slots, free, idleMs: free > 0 ? performance.now() - this.#since : null };
  }

  /** Runs `work` on a free place, of which there must be one: its GPU, and what to call whenever a job is taken. */
  async use(work: (gpu: string | null, taken: () => void) => Promise<void>): Promise<void> {
    const gpu = this.#free.shift()!;
    let some = false;
    try {
      await work(gpu, () => {
        some = true;
        this.#since = performance.now();
      });
    } finally {
      this.#free.push(gpu);
      // Whoever woke up for nothing has taken nothing.
      if (some) this.#since = performance.now();
    }
  }
}
