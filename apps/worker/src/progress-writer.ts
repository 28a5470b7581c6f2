import type { Progress, Stage } from '@ntaa/contracts';

/** Least time between two writes of progress within a stage, ms. */
const INTERVAL = 500;

/** Writes progress at most twice a second: the newest wins, a changed stage is written at once. */
export class ProgressWriter {
  readonly #write: (stage: Stage, progress: Progress) => Promise<void>;
  readonly #failed: (error: unknown) => void;
  #stage: Stage | undefined;
  #writtenAt = 0;
  #pending: { stage: Stage; progress: Progress } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  /** `failed` hears of a write that was put off and then failed; the others reject. */
  constructor(write: (stage: Stage, progress: Progress) => Promise<void>, failed: (error: unknown) => void) {
    this.#write = write;
    this.#failed = failed;
  }

  async put(stage: Stage, progress: Progress): Promise<void> {
    this.#pending = { stage, progress };
    const wait = this.#writtenAt + INTERVAL - Date.now();
    if (stage !== this.#stage || wait <= 0) return this.settle();
    this.#timer ??= setTimeout(() => void this.settle().catch(this.#failed), wait);
  }

  /** Writes what was put off, and waits for what is being written. */
  settle(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#writing = this.#writing.then(async () => {
      const pending = this.#pending;
      if (!pending) return;
      this.#pending = undefined;
      this.#stage = pending.stage;
      this.#writtenAt = Date.now();
      await this.#write(pending.stage, pending.progress);
    });
    return this.#writing;
  }

  /** Forgets what was put off. Resolves when nothing is being written any more; a failure was told before. */
  async discard(): Promise<void> {
    clearTimeout(this.#timer);
    this.#pending = undefined;
    await this.#writing.catch(() => undefined);
  }
}
