import type { EngineChoice, RunningEngine } from '@ntaa/config';
import type { Database } from '@ntaa/db';
import { forkChild } from './forked.js';
import type { EngineOutcome } from './protocol.js';

/**
 * Tries the engine in a child, so that a bad choice is known before the first job, and makes the supernet that ships
 * with the code known to the database. Throws with a sentence for the operator.
 */
export async function registerEngine(
  db: Database,
  engine: EngineChoice,
  gpu: string | null,
): Promise<RunningEngine> {
  let outcome: EngineOutcome | undefined;
  const child = forkChild(
    { kind: 'describe', engine, gpu },
    async (message) => {
      if (message.type === 'done') outcome = message.outcome as EngineOutcome;
    },
    () => undefined,
  );
  const { failure, stderr } = await child.ended;
  if (outcome === undefined) throw new Error(`The trainer does not start. ${failure.detail}\n${stderr}`);
  if (outcome.status === 'unusable') throw new Error(outcome.detail);
  await db.supernets.upsertBuiltin(outcome.supernet);
  return outcome.engine;
}
