import type { Choice, Genotype } from '@ntaa/contracts';
import {
  canonical,
  cost,
  Distribution,
  fitPredictor,
  meanOf,
  nsga2,
  paretoFront,
  standardError,
  violation,
} from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import type { Supernet } from '@ntaa/supernet';
import type { Judged, Task } from '@ntaa/tasks';
import type { EvaluationRecord } from './checkpoint.js';
import { fullExam, judgeCandidate } from './evaluate.js';
import type { Axis, Run } from './run.js';
import { latencyOf } from './latency.js';
import { costWithLatency, judge } from './transfer.js';

/** Predictors that rank worse than this are not listened to. */
const TRUST = 0.3;
const ROUNDS = 2;
const GENERATIONS = 20;
const POPULATION = 60;

/**
 * Finds the architectures that are best for their cost with the adapted weights: the front known so far is judged
 * anew, then a predictor drives constrained NSGA-II and real evaluations confirm what it proposes.
 */
export async function search(run: Run, net: Supernet): Promise<void> {
  const { state, axis } = run;
  const front = frontOf(feasible(run, state.archive), axis).slice(
    0,
    Math.max(4, state.plan.searchCandidates),
  );
  await judge(
    run,
    net,
    front.filter((record) => record.version < state.version).map((r) => r.genotype),
    'search',
  );
  let left = state.plan.searchCandidates;
  for (let round = 0; round < ROUNDS && left > 0 && state.cut !== 'user'; round++) {
    const count = Math.ceil(left / (ROUNDS - round));
    left -= count;
    await judge(run, net, propose(run, net, round, count), 'search');
  }
}

/** `count` new architectures by what the archive says. */
export function propose(run: Run, net: Supernet, round: number, count: number): Genotype[] {
  const { state, axis } = run;
  const predictor = fitPredictor(
    state.archive.map((r) => ({
      genotype: r.genotype,
      score: r.score,
      weight: 0.5 ** (state.version - r.version),
    })),
    net.space,
    net.outputs,
    new Rng(run.seed, 'predictor', round),
  );
  state.tau = predictor.tau;
  const trusted = predictor.tau !== null && predictor.tau >= TRUST;
  const rng = new Rng(run.seed, 'search', round);
  const known = new Set(state.archive.map((record) => record.key));
  const fresh = (genotype: Genotype): boolean => {
    const isNew = !known.has(canonical(genotype));
    known.add(canonical(genotype));
    return isNew;
  };
  // Converged populations repeat themselves: the rest of the round is drawn at random.
  const toppedUp = (found: Genotype[]): Genotype[] => {
    const uniform = Distribution.uniform(net.space);
    for (let tries = 0; found.length < count && tries < 50 * count; tries++) {
      const genotype = uniform.sample(rng);
      const allowed = violation(costWithLatency(run, net, genotype), run.constraints) === 0;
      if (allowed && fresh(genotype)) found.push(genotype);
    }
    return found;
  };
  const costOf = (genotype: Genotype): number => costWithLatency(run, net, genotype)[axis] ?? 0;
  const options = {
    space: net.space,
    outputs: net.outputs,
    constraints: run.constraints,
    ...(state.latency && { latency: (genotype: Genotype) => latencyOf(state.latency!, net, genotype) }),
    population: POPULATION,
    generations: GENERATIONS,
    initial: frontOf(feasible(run, state.archive), axis).map((record) => record.genotype),
    rng,
  };
  if (trusted) {
    const found = nsga2({ ...options, objective: (g) => [-predictor.predict(g), costOf(g)] });
    const predicted = new Map(found.map((genotype) => [genotype, predictor.predict(genotype)]));
    const sorted = found.sort((a, b) => predicted.get(b)! - predicted.get(a)!).filter(fresh);
    // Half from the top, where the choice will be made, half spread along the front.
    const top = sorted.splice(0, Math.ceil(count / 2));
    const stride = Math.max(1, sorted.length / Math.max(1, count - top.length));
    const spread = Array.from({ length: count - top.length }, (_, i) => sorted[Math.floor(i * stride)]);
    return toppedUp([...top, ...spread.filter((g) => g !== undefined)]);
  }
  // No trust in predictions: offspring of what was really seen to be good, judged for real.
  const offspring = nsga2({ ...options, generations: 1, objective: (g) => [rng.uniform(), costOf(g)] });
  return toppedUp(offspring.filter(fresh).slice(0, count));
}

const feasible = (run: Run, archive: readonly EvaluationRecord[]): EvaluationRecord[] =>
  archive.filter(
    (r) =>
      violation(
        {
          macs: r.macs,
          params: r.params,
          size_bytes: 4 * r.params,
          ...(r.latency_ms !== null && { latency_ms: r.latency_ms }),
        },
        run.constraints,
      ) === 0,
  );

export function frontOf(archive: readonly EvaluationRecord[], axis: Axis): EvaluationRecord[] {
  return paretoFront(archive.map((r) => [-r.score, r[axis] ?? 0] as [number, number])).map(
    (i) => archive[i]!,
  );
}

/** What the archive says: architectures that may be worth more work. */
export interface Promising {
  /** Of least validation loss. */
  best: Genotype;
  /** The best among the dearer half. */
  roomy: Genotype;
  /**
   * What somebody who does not search would take, if it was judged: a search on few validation images can be wrong, and
   * should then cost nothing.
   */
  usual: Genotype | null;
}

/** Only feasible architectures count, and for the first two those judged with the final weights, if there are any. */
export function promising(run: Run, fixed: Genotype): Promising {
  const { state } = run;
  const price = (record: EvaluationRecord): number => record[run.axis] ?? 0;
  const allowed = feasible(run, state.archive);
  const current = allowed.filter((record) => record.version === state.version);
  const pool = current.length > 0 ? current : allowed;
  if (pool.length === 0) return { best: fixed, roomy: fixed, usual: fixed };
  const better = (a: EvaluationRecord, b: EvaluationRecord): EvaluationRecord => (b.score > a.score ? b : a);
  const middle = [...pool].sort((a, b) => price(a) - price(b))[pool.length >> 1]!;
  const roomy = pool.filter((record) => price(record) >= price(middle)).reduce(better);
  const usual = allowed.find((record) => record.key === canonical(fixed));
  return { best: pool.reduce(better).genotype, roomy: roomy.genotype, usual: usual?.genotype ?? null };
}

/** Each architecture once. */
export function distinct(genotypes: readonly (Genotype | null)[]): Genotype[] {
  const present = genotypes.filter((genotype) => genotype !== null);
  return [...new Map(present.map((genotype) => [canonical(genotype), genotype])).values()];
}

/**
 * By how many standard errors of the difference, image by image, another architecture must beat the usual one. Three,
 * because it is the best of many, and because images do not show a training's own chance.
 * A difference that is there is found: more images make the error smaller (docs/LOG.md, 2026-11-28).
 */
const EVIDENCE = 3;

/**
 * The architecture to be finetuned: the search's best, where it is better than the usual one (`fixed`) by so much, and
 * otherwise the usual one, so that a search which cannot tell costs nothing. Both are judged with the weights as they are now.
 * Not after a little finetuning: who is ahead in its first tenth says less of its end.
 */
export function choose(run: Run, net: Supernet, fixed: Genotype): Genotype {
  const { state, data, task, seed } = run;
  const { best, usual } = promising(run, fixed);
  if (!usual || canonical(best) === canonical(usual)) return best;
  const exam = fullExam(data, seed);
  const judged = (genotype: Genotype): Judged => judgeCandidate(net, genotype, data, task, exam);
  const found = compared(task, judged(best), judged(usual));
  const { macs } = cost(net.space, best, net.outputs);
  state.choice = { genotype: best, macs, ...found };
  return found.taken ? best : usual;
}

/**
 * Of a fitness that is a mean of ranks: most measures must say so and none otherwise, unless the usual architecture is ruled out
 * (domain-adaptation.ts).
 */
const AGREED = 0.5;

/** How much less `other` loses than `usual`, and whether that is enough to prefer it. */
export function compared(
  task: Pick<Task, 'rescore'>,
  other: Pick<Judged, 'losses' | 'summary'>,
  usual: Pick<Judged, 'losses' | 'summary'>,
): Pick<Choice, 'less' | 'error' | 'taken'> {
  const fitness = task.rescore?.([{ metrics: other.summary }, { metrics: usual.summary }]);
  if (fitness) {
    const less = fitness[1]! - fitness[0]!;
    return { less, error: 0, taken: less < -AGREED };
  }
  const differences = other.losses.map((loss, i) => loss - usual.losses[i]!);
  const [less, error] = [meanOf(differences), standardError(differences)];
  // JSON knows no infinity.
  return { less, error: Number.isFinite(error) ? error : null, taken: less < -EVIDENCE * error };
}
