/** The pieces of a job's work that its own worker offers to others: questions of the trainer, answered from the database. */
import { createHash } from 'node:crypto';
import { cpus } from 'node:os';
import { killPoint } from '@ntaa/config';
import type { Lease } from '@ntaa/db';
import type { Context } from './context.js';
import { engineKey } from './engine-key.js';
import type { PieceQuestion } from './protocol.js';

type Offering = Pick<Context, 'db' | 'worker' | 'engine' | 'config' | 'gpus'>;

export async function answerPieces(
  context: Offering,
  lease: Lease,
  question: PieceQuestion,
  traceparent: string | null,
): Promise<unknown> {
  const { pieces } = context.db;
  switch (question.ask) {
    case 'helpers':
      return helpers(context);
    case 'offer': {
      const engine = engineKey(context.engine);
      const offered = question.pieces.map((spec) => {
        // A subject's key is the hash of its bytes; a job fixes images and seed.
        const id = createHash('sha256')
          .update(JSON.stringify([engine, spec]))
          .digest('hex')
          .slice(0, 32);
        return { id, engine, spec, traceparent };
      });
      // One who comes for less than two pieces comes late.
      const wake = Math.min(Math.ceil(offered.length / 2), await helpers(context));
      await pieces.offer(lease, offered, wake);
      killPoint('worker.pieces-offered');
      return offered.map(({ id }) => id);
    }
    case 'next':
      return pieces.next(lease, question);
    case 'withdraw':
      return pieces.withdraw(lease);
  }
}

/** Places of trainers that could help with a job of this worker, whether or not they are free. */
async function helpers({ db, worker, engine, config, gpus }: Offering): Promise<number> {
  const { here, elsewhere } = await db.workers.others(worker, engine.name);
  const own = Math.max(0, gpus.length - 1);
  return elsewhere + own + (hasRoomForTwo(engine.kind, config.threads) ? here : 0);
}

/** Could two trainers on this host both work at their full speed? */
export function hasRoomForTwo(kind: Context['engine']['kind'], threads: number): boolean {
  const each = { wasm: threads, tensorflow: cpus().length, 'tensorflow-gpu': 0 }[kind];
  return cpus().length >= 2 * each;
}
