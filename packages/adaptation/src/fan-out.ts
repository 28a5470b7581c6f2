/**
 * Has pieces of a job done by whoever is free, this process included: it works on its own pieces while others do, and
 * waits only for those that others hold. Results come back in the order of the pieces, whoever did them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Genotype } from '@ntaa/contracts';
import type { NamedTensors } from '@ntaa/supernet';
import type { Judgement } from './crew.js';
import { imagesOf, type Evaluation } from './evaluate.js';
import { cut, encodeSubject, type Subject } from './pieces.js';
import type { Elsewhere, FinishedPiece } from './ports.js';
import type { Run } from './run.js';

/** Pieces that others hold are waited for as long as one takes here, and at least so long, ms: then they are done twice. */
const PATIENCE = 1000;
/** Between two questions whether others are done, ms. */
const ASKING = 50;

interface Pieces<T> {
  pieces: readonly (readonly Genotype[])[];
  /** Does one here; null: the user said stop. */
  here(piece: number): Promise<T | null>;
}

interface Batch<T> extends Pieces<T> {
  subject: Subject;
  tensors(): NamedTensors;
  /**
   * Of the batch after this one, where it is known and has the same subject: done by who would have to wait at the end of this
   * one. It will be offered again, and what of it is done by then is done.
   */
  ahead: Pieces<T>;
  /** Told every result that others have got. */
  arrived(piece: number, result: T): void;
}

/** null: nobody is there to help, and nothing was done. A result that is null was not reached. */
export async function fanOut<T>(run: Run, batch: Batch<T>): Promise<(T | null)[] | null> {
  const offered = await offer(run, batch);
  if (!offered) return null;
  const { elsewhere, ids } = offered;
  const results: (T | null)[] = batch.pieces.map(() => null);
  const count = results.length;
  const waiting = new Map(ids.slice(0, count).map((id, i) => [id, i]));
  const later = new Map(ids.slice(count).map((id, i) => [id, i]));
  let finished: FinishedPiece[] = [];
  let stopped = false;
  let longest = 0;
  let waitedFrom = run.ports.now();
  while (waiting.size > 0 && !stopped) {
    const patience = Math.max(PATIENCE, longest);
    const impatient = run.ports.now() - waitedFrom > patience;
    // A pause waits for this batch alone.
    const wanted = [...waiting.keys(), ...(run.pausing ? [] : later.keys())];
    const { taken, done } = await elsewhere.next({ wanted, finished, impatient });
    finished = [];
    if (done.length > 0) waitedFrom = run.ports.now();
    for (const { id, result } of done) {
      if (later.delete(id)) continue;
      const piece = waiting.get(id)!;
      waiting.delete(id);
      results[piece] = result as T;
      batch.arrived(piece, result as T);
    }
    if (taken !== null) {
      const piece = waiting.get(taken);
      const began = run.ports.now();
      const result = await (piece === undefined ? batch.ahead.here(later.get(taken)!) : batch.here(piece));
      waitedFrom = run.ports.now();
      longest = Math.max(longest, waitedFrom - began);
      stopped = result === null;
      if (result === null) break;
      later.delete(taken);
      waiting.delete(taken);
      if (piece !== undefined) results[piece] = result;
      finished = [{ id: taken, result }];
    } else if (waiting.size > 0) {
      stopped = await run.breathe();
      if (!stopped) await sleep(ASKING);
    }
  }
  if (finished.length > 0) await elsewhere.next({ wanted: [], finished, impatient: false });
  if (stopped) await elsewhere.withdraw();
  return results;
}

/** Makes pieces known to other workers; null: there is none. */
async function offer(
  run: Run,
  batch: Pick<Batch<unknown>, 'subject' | 'tensors' | 'pieces' | 'ahead'>,
): Promise<{ elsewhere: Elsewhere; ids: readonly string[] } | null> {
  const { elsewhere } = run.ports;
  if (!elsewhere || batch.pieces.length < 2 || (await elsewhere.helpers()) === 0) return null;
  const subject = await elsewhere.put(encodeSubject(batch.subject, batch.tensors()));
  const offered = [...batch.pieces, ...batch.ahead.pieces].map((genotypes) => ({ subject, genotypes }));
  // One who starts for less than two pieces comes late.
  const ids = await elsewhere.offer(offered, Math.ceil(batch.pieces.length / 2));
  return { elsewhere, ids };
}

/** `Crew.judge`, with the crews of other workers where there are any. `ahead`: what will be judged after this. */
export async function judgeTogether(
  run: Run,
  judgement: Judgement,
  ahead: readonly Genotype[] = [],
): Promise<(Evaluation | null)[]> {
  const { net, genotypes, task, exam, judged } = judgement;
  const { space, outputs } = net;
  const cutUp = (list: readonly Genotype[]): number[][] => cut(net, list, imagesOf(exam), run.crew.threads);
  const pieces = cutUp(genotypes);
  const of = (piece: number): Genotype[] => pieces[piece]!.map((index) => genotypes[index]!);
  const next = cutUp(ahead).map((piece) => piece.map((index) => ahead[index]!));
  const here = async (given: Judgement) => {
    const found = await run.crew.judge(given);
    return found.includes(null) ? null : found;
  };
  const results = await fanOut<(Evaluation | null)[]>(run, {
    subject: { work: { kind: 'judge', exam }, task: task.name, space, outputs },
    tensors: () => net.tensors(),
    pieces: pieces.map((_, piece) => of(piece)),
    here: (piece) => here({ ...judgement, genotypes: of(piece) }),
    // Told when its turn has come.
    ahead: {
      pieces: next,
      here: (piece) => here({ ...judgement, genotypes: next[piece]!, judged: () => undefined }),
    },
    arrived: (piece, found) => of(piece).forEach((genotype, i) => judged(genotype, found[i]!)),
  });
  if (!results) return run.crew.judge(judgement);
  const all: (Evaluation | null)[] = genotypes.map(() => null);
  pieces.forEach((indices, piece) =>
    indices.forEach((index, i) => (all[index] = results[piece]?.[i] ?? null)),
  );
  return all;
}
