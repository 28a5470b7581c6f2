import type { Queue, QueueOptions } from './queue.js';

/** Connects to the configured backend and waits until it is ready. */
export async function openQueue(options: QueueOptions): Promise<Queue> {
  throw new Error(`not there yet ${options.databaseUrl}`);
}
