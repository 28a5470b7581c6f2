import type { Genotype } from '@ntaa/contracts';
import { canonical, Distribution, fitPredictor, nsga2, paretoFront, violation } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import type { Supernet } from '@ntaa/supernet';
import type { EvaluationRecord, State } from './checkpoint.js';
import type { Axis, Run } from './run.js';
import { RACE } from './plan.js';
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
  /** The best among the dearer half, because a short joint training favours small networks. */
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
 * Architectures worth finetuning. `epochs`: of finetuning, as planned. Where there are too few for a race one is taken
 * untried: a clock gives a small network more passes, steps give all networks the same.
 */
export function finalists(run: Run, fixed: Genotype, epochs: number): Genotype[] {
  const { best, roomy, usual } = promising(run, fixed);
  if (RACE.share * epochs < RACE.leastEpochs) return [run.state.plan.deadline === null ? roomy : best];
  // Where the usual one is the best of the dearer half, it races against a cheaper one that did better.
  return distinct([roomy, usual, best]).slice(0, RACE.finalists);
}

/**
 * Losses closer than this, in standard errors, are a tie, and the cheaper finalist wins it. Little, because so early in
 * its finetuning a small network is ahead of what it will be.
 */
const TIE = 0.1;

/** Those that may be chosen: where none was left in the race, all. */
export function inRace(raced: State['raced']): State['raced'] {
  const left = raced.filter(({ out }) => !out);
  return left.length > 0 ? left : raced;
}

/** Of the finalists the one with the least validation loss after its finetuning, or a cheaper one that is as good. */
export function winner(run: Run, costs: readonly number[]): number {
  const { raced } = run.state;
  const compared = inRace(raced);
  const best = compared.reduce((a, b) => (b.loss < a.loss ? b : a));
  const candidates = compared.filter(({ loss }) => loss <= best.loss + TIE * best.error);
  return candidates.map((one) => raced.indexOf(one)).reduce((a, b) => (costs[b]! < costs[a]! ? b : a));
}
