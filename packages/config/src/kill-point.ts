/** Named places between two statements at which a fault harness can have a process die (docs/chaos.md). */
import { unlinkSync } from 'node:fs';
import { join } from 'node:path';

/** Every place there is: `app.place`. */
export const KILL_POINTS = [
  'api.job-created',
  'api.outbox-sent',
  'api.garbage-deleted',
  'worker.lease-claimed',
  'worker.checkpoint-recorded',
  'worker.job-succeeded',
  'worker.pieces-offered',
  'worker.piece-claimed',
  'worker.piece-answered',
  'trainer.checkpoint-stored',
  'trainer.model-stored',
  'trainer.results-taken',
] as const;
export type KillPoint = (typeof KILL_POINTS)[number];

/**
 * Kills this process, as kill -9 does, when the folder that NTAA_CHAOS_KILL names has a file of the place's name. The
 * file goes first: of all processes that come by, one dies, once. Without the variable, which only the harness sets,
 * nothing happens.
 */
export function killPoint(name: KillPoint): void {
  const folder = process.env['NTAA_CHAOS_KILL'];
  if (!folder) return;
  try {
    unlinkSync(join(folder, name));
  } catch {
    return;
  }
  process.kill(process.pid, 'SIGKILL');
}
