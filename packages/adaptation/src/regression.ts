/** Ridge regression of targets on features by its normal equations: as many unknowns as features, however many images. */
import { ridgeSolve } from '@ntaa/nas';
import type { Affine } from '@ntaa/tasks';

/** What image i should be answered with, [outputs]; good until the next call. */
export type TargetRow = (i: number) => Float64Array;

interface NormalEquations {
  /** Centred, [width * width] and [width * outputs]. */
  gram: Float64Array;
  cross: Float64Array;
  /** Of the features and of the targets. */
  mean: Float64Array;
  prior: Float64Array;
}

/** @param features [n * width]. `weightOf`: how much an image counts; their mean must be 1. */
export function normalEquations(
  features: Float32Array,
  target: TargetRow,
  width: number,
  outputs: number,
  weightOf: (i: number) => number = () => 1,
): NormalEquations {
  const n = features.length / width;
  const mean = new Float64Array(width);
  const prior = new Float64Array(outputs);
  for (let i = 0; i < n; i++) {
    const w = weightOf(i);
    for (let d = 0; d < width; d++) mean[d]! += (w * features[i * width + d]!) / n;
    target(i).forEach((value, k) => (prior[k]! += (w * value) / n));
  }
  const gram = new Float64Array(width * width);
  const cross = new Float64Array(width * outputs);
  const x = new Float64Array(width);
  for (let i = 0; i < n; i++) {
    const w = weightOf(i);
    for (let d = 0; d < width; d++) x[d] = features[i * width + d]! - mean[d]!;
    const wanted = target(i);
    for (let a = 0; a < width; a++) {
      const xa = w * x[a]!;
      if (xa === 0) continue;
      for (let b = 0; b <= a; b++) gram[a * width + b]! += xa * x[b]!;
      for (let k = 0; k < outputs; k++) cross[a * outputs + k]! += xa * (wanted[k]! - prior[k]!);
    }
  }
  for (let a = 0; a < width; a++) for (let b = 0; b < a; b++) gram[b * width + a] = gram[a * width + b]!;
  return { gram, cross, mean, prior };
}

/** `penalty`: relative to the mean energy of a feature. */
export function solve({ gram, cross, mean, prior }: NormalEquations, penalty: number): Affine {
  const [width, outputs] = [mean.length, prior.length];
  let trace = 0;
  for (let a = 0; a < width; a++) trace += gram[a * width + a]!;
  const weight = ridgeSolve(gram, cross, penalty * (trace / width) + 1e-9);
  const bias = Float64Array.from({ length: outputs }, (_, k) => {
    let value = prior[k]!;
    for (let d = 0; d < width; d++) value -= mean[d]! * weight[d * outputs + k]!;
    return value;
  });
  return { weight, bias };
}

/** Of features [n * width]: [n * outputs]. */
export function apply({ weight, bias }: Affine, features: Float32Array): Float64Array {
  const outputs = bias.length;
  const width = weight.length / outputs;
  const n = features.length / width;
  const out = new Float64Array(n * outputs);
  for (let i = 0; i < n; i++) {
    const row = out.subarray(i * outputs, (i + 1) * outputs);
    row.set(bias);
    for (let d = 0; d < width; d++) {
      const value = features[i * width + d]!;
      if (value !== 0) for (let k = 0; k < outputs; k++) row[k]! += value * weight[d * outputs + k]!;
    }
  }
  return out;
}
