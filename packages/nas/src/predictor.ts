/** Predicts an architecture's score from its genes, so that the search may rank what it has not evaluated. */
import type { Genotype, SearchSpace } from '@ntaa/contracts';
import type { Rng } from '@ntaa/random';
import { cost } from './cost.js';
import { encode, genes } from './genome.js';
import { ridgeSolve } from './ridge.js';
import { kendallTau } from './statistics.js';

export interface ScoredGenotype {
  genotype: Genotype;
  /** Higher is better. */
  score: number;
  /** Trust in the record, > 0; a fresh one has 1. */
  weight: number;
}

export interface Predictor {
  /** Predicted score. */
  predict(genotype: Genotype): number;
  /** Kendall's tau of 5-fold out-of-fold predictions with the scores; 0 with fewer than 10 records. */
  tau: number;
  kind: 'ridge' | 'rbf';
}

type Regression = (x: Float64Array) => number;
interface Model {
  kind: Predictor['kind'];
  fit: (samples: Samples) => Regression;
}

const FOLDS = 5;
const MIN_RECORDS = 2 * FOLDS;
/** The kernel matrix is n x n; past this many records the linear model has enough to go by. */
const MAX_RBF_RECORDS = 400;

/**
 * Weighted ridge and RBF kernel regressions over a small grid of penalties, on one-hot genes and standardised
 * log MACs; the one with the best cross-validated tau is fitted on everything. Throws RangeError without records.
 */
export function fitPredictor(
  records: readonly ScoredGenotype[],
  space: SearchSpace,
  outputs: number,
  rng: Rng,
): Predictor {
  if (records.length === 0) throw new RangeError('fitPredictor: no records');
  const features = featureMap(space, outputs, records);
  const samples = new Samples(
    records.map(({ genotype }) => features(genotype)),
    records.map(({ score }) => score),
    records.map(({ weight }) => weight),
  );
  const folds = rng.shuffle(records.map((_, i) => i % FOLDS));
  let best = { model: MODELS[0]!, tau: 0 };
  if (records.length >= MIN_RECORDS) {
    best.tau = -Infinity;
    const kept = Array.from({ length: FOLDS }, (_, fold) => samples.where((i) => folds[i] !== fold));
    for (const model of MODELS) {
      if (model.kind === 'rbf' && records.length > MAX_RBF_RECORDS) continue;
      const regressions = kept.map((others) => model.fit(others));
      const outOfFold = samples.x.map((row, i) => regressions[folds[i]!]!(row));
      const tau = kendallTau(outOfFold, samples.y);
      if (tau > best.tau) best = { model, tau };
    }
  }
  const regression = best.model.fit(samples);
  return {
    predict: (genotype) => regression(features(genotype)),
    tau: best.tau,
    kind: best.model.kind,
  };
}

/** One-hot genes, then log MACs standardised over the records. */
function featureMap(space: SearchSpace, outputs: number, records: readonly ScoredGenotype[]) {
  const sizes = genes(space).map((gene) => gene.choices.length);
  const width = sizes.reduce((sum, size) => sum + size, 0);
  const logMacs = (genotype: Genotype) => Math.log(cost(space, genotype, outputs).macs);
  const values = records.map(({ genotype }) => logMacs(genotype));
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  const deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length) || 1;
  return (genotype: Genotype): Float64Array => {
    const x = new Float64Array(width + 1);
    let offset = 0;
    encode(space, genotype).forEach((choice, gene) => {
      x[offset + choice] = 1;
      offset += sizes[gene]!;
    });
    x[width] = (logMacs(genotype) - mean) / deviation;
    return x;
  };
}

/** Records as numbers, and what every regression over them wants: computed once, because the job waits for it. */
class Samples {
  #equations: ReturnType<typeof equationsOf> | undefined;
  #distances: Float64Array | undefined;

  constructor(
    readonly x: readonly Float64Array[],
    readonly y: readonly number[],
    readonly weight: readonly number[],
  ) {}

  where(kept: (i: number) => boolean): Samples {
    const of = <T>(list: readonly T[]): T[] => list.filter((_, i) => kept(i));
    return new Samples(of(this.x), of(this.y), of(this.weight));
  }

  get equations(): ReturnType<typeof equationsOf> {
    return (this.#equations ??= equationsOf(this));
  }

  /** Squared, n x n; the lower triangle. */
  get distances(): Float64Array {
    return (this.#distances ??= distancesOf(this.x));
  }
}

/** Weighted normal equations around the means (an intercept without a penalty). Of `XtX` the lower triangle. */
function equationsOf({ x, y, weight }: Samples) {
  const d = x[0]!.length;
  const meanY = weightedMean(y, weight);
  const meanX = Float64Array.from({ length: d }, (_, j) =>
    weightedMean(
      x.map((row) => row[j]!),
      weight,
    ),
  );
  const XtX = new Float64Array(d * d);
  const XtY = new Float64Array(d);
  const centred = new Float64Array(d);
  x.forEach((row, i) => {
    for (let j = 0; j < d; j++) centred[j] = row[j]! - meanX[j]!;
    const off = y[i]! - meanY;
    for (let a = 0; a < d; a++) {
      const weighted = weight[i]! * centred[a]!;
      XtY[a]! += weighted * off;
      for (let b = 0; b <= a; b++) XtX[a * d + b]! += weighted * centred[b]!;
    }
  });
  return { meanX, meanY, XtX, XtY };
}

function distancesOf(x: readonly Float64Array[]): Float64Array {
  const n = x.length;
  const distances = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < i; j++) distances[i * n + j] = squaredDistance(x[i]!, x[j]!);
  return distances;
}

/** Weighted ridge. */
function fitRidge({ equations }: Samples, lambda: number): Regression {
  const { meanX, meanY, XtX, XtY } = equations;
  const beta = ridgeSolve(XtX, XtY, lambda);
  return (features) => features.reduce((sum, value, j) => sum + (value - meanX[j]!) * beta[j]!, meanY);
}

/** Kernel ridge with k(a, b) = exp(-|a - b|^2 / scale); a record's noise is lambda / weight. */
function fitRbf({ x, y, weight, distances }: Samples, lambda: number, scale: number): Regression {
  const n = x.length;
  const mean = weightedMean(y, weight);
  const K = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) K[i * n + j] = Math.exp(-distances[i * n + j]! / scale);
    K[i * n + i] = 1 + lambda / weight[i]!;
  }
  const alpha = ridgeSolve(
    K,
    Float64Array.from(y, (value) => value - mean),
    0,
  );
  return (features) =>
    x.reduce((sum, row, i) => sum + alpha[i]! * Math.exp(-squaredDistance(row, features) / scale), mean);
}

function squaredDistance(a: Float64Array, b: Float64Array): number {
  let distance = 0;
  for (let j = 0; j < a.length; j++) {
    const difference = a[j]! - b[j]!;
    distance += difference * difference;
  }
  return distance;
}

function weightedMean(values: readonly number[], weights: readonly number[]): number {
  let sum = 0;
  let total = 0;
  values.forEach((value, i) => {
    sum += weights[i]! * value;
    total += weights[i]!;
  });
  return sum / total;
}

/** Simplest first: of equals in cross-validation the first is kept. */
const MODELS: Model[] = [
  ...[1, 0.1, 10].map((lambda): Model => ({ kind: 'ridge', fit: (samples) => fitRidge(samples, lambda) })),
  ...[0.1, 1].flatMap((lambda) =>
    [10, 40].map((scale): Model => ({ kind: 'rbf', fit: (samples) => fitRbf(samples, lambda, scale) })),
  ),
];
