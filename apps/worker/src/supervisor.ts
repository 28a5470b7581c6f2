/** Binds the queue to its handlers. Training and decoding run in forked children, never in this process. */
import type { Queue } from '@ntaa/queue';
import type { WorkerLoad } from '@ntaa/db';
import type { Context } from './context.js';
import { Places } from './places.js';
import { runJobs } from './run-jobs.js';
import { sweepScratch } from './scratch.js';
import { validateDataset } from './validate-dataset.js';

export interface Supervisor {
  /** Takes no new work, has running jobs saved and given back; resolves when nothing of this worker runs any more. */
  close(): Promise<void>;
  readonly load: WorkerLoad;
}

export async function startSupervisor(context: Context, queue: Queue): Promise<Supervisor> {
  const swept = await sweepScratch(context.scratch);
  if (swept.length > 0) context.log.info({ swept }, 'removed what a lost worker left behind');
  const places = new Places(context.gpus);
  const workers = await Promise.all([
    queue.work('dataset.validate', 1, ({ dataset_id }, signal) =>
      validateDataset(context, dataset_id, signal),
    ),
    // As many at once as there are places, so that one is always free.
    queue.work('job.run', places.slots, (_some, signal) =>
      places.use((gpu, taken) => runJobs({ ...context, taken }, gpu, signal)),
    ),
  ]);
  return {
    get load() {
      return places.load;
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.close()));
    },
  };
}
