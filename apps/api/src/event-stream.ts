/** A job's event log as Server-Sent Events: replay, then live, until the event `done`. */
import type { JobFeed } from './plugins/job-feed.js';

export interface StreamOptions {
  readonly tenant: string;
  readonly job: string;
  /** Seq of the last event the client has. */
  readonly after: number;
  readonly heartbeatMs: number;
  /** Ends the stream: the client went away. */
  readonly signal: AbortSignal;
}

/** The stream's text, a page of events at a time; whoever consumes it sets the pace. */
export async function* eventStream(feed: JobFeed, options: StreamOptions): AsyncGenerator<string> {
  const { tenant, job, signal, heartbeatMs } = options;
  const ended = AbortSignal.any([signal, feed.closing]);
  const bell = new Bell(ended);
  // Watch first, read then: nothing written in between is missed.
  const unwatch = feed.watch(job, () => bell.ring());
  let after = options.after;
  try {
    yield 'retry: 2000\n\n';
    while (!ended.aborted) {
      const frames = await feed.read(tenant, job, after);
      if (!frames) return;
      if (frames.text) yield frames.text;
      after = frames.last;
      if (frames.done) return;
      if (frames.more) continue;
      // A notification can be lost with its connection: every heartbeat looks again, too.
      if (!(await bell.wait(heartbeatMs)) && !ended.aborted) yield ': heartbeat\n\n';
    }
  } finally {
    unwatch();
    bell.close();
  }
}

/** Remembers that it rang until somebody has waited for it. */
class Bell {
  #rung = false;
  #wake: () => void = () => undefined;
  readonly #ended: AbortSignal;
  readonly #onEnd = () => this.ring();

  constructor(ended: AbortSignal) {
    this.#ended = ended;
    ended.addEventListener('abort', this.#onEnd);
  }
  ring(): void {
    this.#rung = true;
    this.#wake();
  }
  /** true: it rang; false: nothing in so many milliseconds. */
  async wait(milliseconds: number): Promise<boolean> {
    if (!this.#rung && !this.#ended.aborted)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, milliseconds);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    const rung = this.#rung;
    this.#rung = false;
    return rung;
  }
  close(): void {
    this.#ended.removeEventListener('abort', this.#onEnd);
  }
}
