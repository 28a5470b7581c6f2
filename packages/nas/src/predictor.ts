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

interface Samples {
  x: Float64Array[];
  y: number[];
  weight: number[];
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
  const samples: Samples = {
    x: records.map(({ genotype }) => features(genotype)),
    y: records.map(({ score }) => score),
    weight: records.map(({ weight }) => weight),
  };
  const folds = rng.shuffle(records.map((_, i) => i % FOLDS));
  let best = { model: MODELS[0]!, tau: 0 };
  if (records.length >= MIN_RECORDS) {
    best.tau = -Infinity;
    for (const model of MODELS) {
      if (model.kind === 'rbf' && records.length > MAX_RBF_RECORDS) continue;
      const tau = kendallTau(outOfFold(model, samples, folds), samples.y);
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

function outOfFold(model: Model, { x, y, weight }: Samples, folds: readonly number[]): number[] {
  const predictions = y.map(() => 0);
  for (let fold = 0; fold < FOLDS; fold++) {
    const kept = <T>(list: readonly T[]) => list.filter((_, i) => folds[i] !== fold);
    const regression = model.fit({ x: kept(x), y: kept(y), weight: kept(weight) });
    x.forEach((features, i) => {
      if (folds[i] === fold) predictions[i] = regression(features);
    });
  }
  return predictions;
}

/** Weighted ridge with an unpenalised intercept (by centring). */
function fitRidge({ x, y, weight }: Samples, lambda: number): Regression {
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
  x.forEach((row, i) => {
    const centred = row.map((value, j) => value - meanX[j]!);
    for (let a = 0; a < d; a++) {
      XtY[a]! += weight[i]! * centred[a]! * (y[i]! - meanY);
      for (let b = 0; b < d; b++) XtX[a * d + b]! += weight[i]! * centred[a]! * centred[b]!;
    }
  });
  const beta = ridgeSolve(XtX, XtY, lambda);
  return (features) => features.reduce((sum, value, j) => sum + (value - meanX[j]!) * beta[j]!, meanY);
}

/** Kernel ridge with k(a, b) = exp(-|a - b|^2 / scale); a record's noise is lambda / weight. */
function fitRbf({ x, y, weight }: Samples, lambda: number, scale: number): Regression {
  const n = x.length;
  const mean = weightedMean(y, weight);
  const K = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) K[i * n + j] = rbf(x[i]!, x[j]!, scale);
    K[i * n + i]! += lambda / weight[i]!;
  }
  const alpha = ridgeSolve(
    K,
    Float64Array.from(y, (value) => value - mean),
    0,
  );
  return (features) => x.reduce((sum, row, i) => sum + alpha[i]! * rbf(row, features, scale), mean);
}

function rbf(a: Float64Array, b: Float64Array, scale: number): number {
  let distance = 0;
  for (let j = 0; j < a.length; j++) distance += (a[j]! - b[j]!) ** 2;
  return Math.exp(-distance / scale);
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
