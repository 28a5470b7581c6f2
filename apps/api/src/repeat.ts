import type { FastifyBaseLogger } from 'fastify';
import { setTimeout as pause } from 'node:timers/promises';

/** Processes that end need not wait for it. */
const sleep = (milliseconds: number) => pause(milliseconds, undefined, { ref: false });
export type LoopLog = Pick<FastifyBaseLogger, 'info' | 'warn'>;
export interface Loop {
  /** Runs the task at once, or once more when it is running. */
  wake(): void;
  /** Resolves when the task runs no more. */
  close(): Promise<void>;
}

/**
 * Runs `task` now, then at every interval or wake-up, never twice at a time, and not within `rest` milliseconds of its last
 * end: of many wake-ups one run takes care. A failed run is logged once, then retried.
 */
export function repeat(
  interval: number,
  log: LoopLog,
  name: string,
  task: () => Promise<void>,
  rest = 0,
): Loop {
  let closed = false;
  let again = true;
  let failing = false;
  let wake: () => void = () => undefined;
  const loop = (async () => {
    while (!closed) {
      again = false;
      try {
        await task();
        if (failing) log.info({ loop: name }, 'recovered');
        failing = false;
      } catch (err) {
        if (!failing) log.warn({ err, loop: name }, 'failed; trying again');
        failing = true;
      }
      if (rest > 0 && !closed) await sleep(rest);
      if (closed || (again && !failing)) continue;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, interval);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  })();
  return {
    wake(): void {
      again = true;
      wake();
    },
    async close(): Promise<void> {
      closed = true;
      wake();
      await loop;
    },
  };
}
