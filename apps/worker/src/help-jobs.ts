import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PieceTaker } from '@ntaa/db';
import type { Queue } from '@ntaa/queue';
import { assembleHelp } from './assemble.js';
import type { Context } from './context.js';
import { engineKey } from './engine-key.js';
import { Helping } from './helping.js';
import { LEASE } from './job-attempt.js';
import { hasRoomForTwo } from './offers.js';
import { makeScratch, type Scratch } from './scratch.js';
import type { Slots } from './slots.js';

/** Before a wake-up that found no place here is given to another worker, ms. */
const PUT_BACK = 50;

/** Handler of `job.help`: does pieces of a job while there are any, and stays for more of them. */
export function helpJobs(context: Context, slots: Slots, queue: Queue) {
  const { engine, worker, config } = context;
  const taker: PieceTaker = {
    worker,
    engine: engineKey(engine),
    otherHostThan: hasRoomForTwo(engine.kind, config.threads) ? null : worker.replace(/-\d+$/, ''),
  };
  return async (jobId: string, shutdown: AbortSignal): Promise<void> => {
    if (shutdown.aborted) return;
    const there = slots.idleHelper(jobId);
    if (there) {
      await there.work();
      return slots.look();
    }
    const found = await slots.forHelper((gpu) => begin(context, taker, jobId, gpu));
    if (found === 'no place') {
      // This process does not listen any more until there is one.
      await sleep(PUT_BACK, undefined, { signal: shutdown }).catch(() => undefined);
      await queue.add('job.help', { job_id: jobId }, { dedupe: `${jobId}-help-${randomUUID()}` });
      return;
    }
    await found?.first;
    slots.look();
  };
}

/** Forks a helper for a piece that it has claimed; null: there is none. */
async function begin(
  context: Context,
  taker: PieceTaker,
  jobId: string,
  gpu: string | null,
): Promise<Helping | null> {
  const { pieces } = context.db;
  const claim = await pieces.claim(jobId, taker, LEASE);
  if (!claim) return null;
  let scratch: Scratch | undefined;
  let helping: Helping | null = null;
  try {
    scratch = await makeScratch(context.scratch);
    const assignment = await assembleHelp(context, jobId, { scratch: scratch.folder, gpu });
    helping = assignment && new Helping(context, taker, assignment, claim, scratch);
    return helping;
  } catch (error) {
    await pieces.release(claim.lease, true).catch(() => undefined);
    throw error;
  } finally {
    if (!helping) await scratch?.remove();
  }
}
