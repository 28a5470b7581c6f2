/** The pieces of a job's work that its own worker offers to others: questions of the trainer, answered from the database. */
import { createHash } from 'node:crypto';
import { cpus } from 'node:os';
import { killPoint } from '@ntaa/config';
import type { PieceSpec } from '@ntaa/adaptation';
import type { Stage } from '@ntaa/contracts';
import type { Claim, Lease } from '@ntaa/db';
import { DEFAULT_CANDIDATES } from '@ntaa/nas';
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
      // A subject's key is the hash of its bytes; a job fixes images and seed.
      const offered = question.pieces.map((spec) => ({
        id: idOf([engine, spec]),
        engine,
        spec,
        traceparent,
      }));
      await pieces.offer(lease, offered, Math.min(question.wake, await helpers(context)));
      killPoint('worker.pieces-offered');
      return offered.map(({ id }) => id);
    }
    case 'next':
      return pieces.next(lease, question);
    case 'withdraw':
      return pieces.withdraw(lease);
  }
}

const idOf = (content: unknown): string =>
  createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 32);

/** Candidates for which a helper is worth its start, each. */
const CANDIDATES = 24;
/** Stages of a linear evaluation that have candidates before them. */
const SEARCHES: readonly Stage[] = ['prepare', 'search'];

/**
 * Where a job is going to have pieces as soon as its trainer has started, helpers start meanwhile: a piece each that is nothing
 * but a start.
 */
export async function wakeHelpers(
  context: Offering,
  { lease, job, request, wanted }: Pick<Claim, 'lease' | 'job' | 'request' | 'wanted'>,
  traceparent: string | null,
): Promise<void> {
  if (request.kind !== 'adapt' || request.paradigm !== 'linear-evaluation' || wanted !== 'run') return;
  // An earlier attempt got so far: its search is over.
  if (job.stage !== null && !SEARCHES.includes(job.stage)) return;
  const candidates = request.budget?.max_candidates ?? DEFAULT_CANDIDATES;
  const wake = Math.min(Math.floor(candidates / CANDIDATES), await helpers(context));
  if (wake === 0) return;
  const engine = engineKey(context.engine);
  const spec: PieceSpec = { subject: null, genotypes: [] };
  const starts = Array.from({ length: wake }, (_, i) => ({
    ...{ id: idOf(['start', lease.attempt, i]), engine, spec, traceparent },
  }));
  await context.db.pieces.offer(lease, starts, wake);
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
