/** Binds the queue to its handlers. Training and decoding run in forked children, never in this process. */
import type { WorkerLoad } from '@ntaa/db';
import type { Intake, Queue } from '@ntaa/queue';
import type { Context } from './context.js';
import { helpJobs } from './help-jobs.js';
import { runJobs } from './run-jobs.js';
import { sweepScratch } from './scratch.js';
import { Slots } from './slots.js';
import { validateDataset } from './validate-dataset.js';

export interface Supervisor {
  /** Takes no new work, has running jobs saved and given back; resolves when nothing of this worker runs any more. */
  close(): Promise<void>;
  readonly load: WorkerLoad;
}

export async function startSupervisor(context: Context, queue: Queue): Promise<Supervisor> {
  const swept = await sweepScratch(context.scratch);
  if (swept.length > 0) context.log.info({ swept }, 'removed what a lost worker left behind');
  const slots = new Slots(context.gpus, (canHelp) => {
    const heard = help.then((intake) => (canHelp ? intake.resume() : intake.pause()));
    heard.catch((error: unknown) => context.log.warn({ err: error }, 'the queue does not answer'));
  });
  const helping = helpJobs(context, slots, queue);
  const help: Promise<Intake> = queue.work('job.help', slots.size, ({ job_id }, signal) =>
    helping(job_id, signal),
  );
  const intakes = await Promise.all([
    help,
    queue.work('dataset.validate', 1, ({ dataset_id }, signal) =>
      validateDataset(context, dataset_id, signal),
    ),
    // As many at once as there are places, so that one is always free.
    queue.work('job.run', slots.size, (_some, signal) =>
      slots.forJob((gpu, taken) => runJobs({ ...context, taken }, gpu, signal)),
    ),
  ]);
  return {
    get load() {
      return slots.load;
    },
    async close() {
      const closed = intakes.map((intake) => intake.close());
      await slots.close();
      await Promise.all(closed);
      // One that had just begun.
      await slots.close();
    },
  };
}
