import type { Genotype } from '@ntaa/contracts';
import { tf } from '@ntaa/engine';
import { ridgeSolve } from '@ntaa/nas';
import type { Supernet } from '@ntaa/supernet';
import { recalibrate } from './evaluate.js';
import type { Task } from '@ntaa/tasks';
import { evaluationBatches, labelled, truthOf, type TargetData } from './target-data.js';

/** Relative to the mean feature energy: enough to be stable with fewer images than features. */
const RIDGE = 0.05;

/**
 * Sets the classifier to ridge regression onto centred targets (one-hot labels) from the features of `genotype` over `indices`,
 * scaled so that its cross-entropy on them is least (ridge outputs are probabilities, not logits). Starting the
 * transfer from a head that fits the inherited features keeps the first gradients from destroying them.
 */
export function initialiseHead(
  net: Supernet,
  genotype: Genotype,
  data: TargetData,
  task: Task,
  indices: readonly number[],
  calibration: readonly number[],
): void {
  const known = labelled(data, indices);
  const { labels } = truthOf(data, known);
  const bn = recalibrate(net, genotype, data, labelled(data, calibration));
  const features = collectFeatures(net, genotype, bn, data, known);
  bn.dispose();
  const width = features.length / labels.length;
  const row = new Float64Array(net.outputs);
  const target: TargetRow = (i) => {
    task.headTarget(labels[i]!, row);
    return row;
  };
  const { weight, bias } = ridgeClassifier(features, target, width, net.outputs);
  const scale = bestScale(features, target, weight, bias);
  for (const { name, variable } of net.params()) {
    if (name === 'classifier.weight') assign(variable, weight, scale);
    if (name === 'classifier.bias') assign(variable, bias, scale);
  }
}

/** Probabilities that image i should be answered with; good until the next call. */
type TargetRow = (i: number) => Float64Array;

function collectFeatures(
  net: Supernet,
  genotype: Genotype,
  bn: ReturnType<typeof recalibrate>,
  data: TargetData,
  indices: readonly number[],
): Float32Array {
  const rows: Float32Array[] = [];
  for (const images of evaluationBatches(data, indices, genotype.resolution)) {
    const features = tf.tidy(() => net.forward(images, genotype, bn).features);
    rows.push(features.dataSync().slice() as Float32Array);
    features.dispose();
  }
  const out = new Float32Array(rows.reduce((sum, row) => sum + row.length, 0));
  rows.reduce((offset, row) => (out.set(row, offset), offset + row.length), 0);
  return out;
}

/** weight: [width * outputs] row-major, bias: [outputs]. Features and targets are centred; the bias restores their means. */
function ridgeClassifier(features: Float32Array, target: TargetRow, width: number, outputs: number) {
  const n = features.length / width;
  const mean = new Float64Array(width);
  const prior = new Float64Array(outputs);
  for (let i = 0; i < n; i++) {
    for (let d = 0; d < width; d++) mean[d]! += features[i * width + d]! / n;
    target(i).forEach((probability, k) => (prior[k]! += probability / n));
  }
  const gram = new Float64Array(width * width);
  const cross = new Float64Array(width * outputs);
  const x = new Float64Array(width);
  for (let i = 0; i < n; i++) {
    for (let d = 0; d < width; d++) x[d] = features[i * width + d]! - mean[d]!;
    const wanted = target(i);
    for (let a = 0; a < width; a++) {
      const xa = x[a]!;
      if (xa === 0) continue;
      for (let b = 0; b <= a; b++) gram[a * width + b]! += xa * x[b]!;
      for (let k = 0; k < outputs; k++) cross[a * outputs + k]! += xa * (wanted[k]! - prior[k]!);
    }
  }
  let trace = 0;
  for (let a = 0; a < width; a++) {
    trace += gram[a * width + a]!;
    for (let b = 0; b < a; b++) gram[b * width + a] = gram[a * width + b]!;
  }
  const weight = ridgeSolve(gram, cross, RIDGE * (trace / width) + 1e-9);
  const bias = Float64Array.from({ length: outputs }, (_, k) => {
    let value = prior[k]!;
    for (let d = 0; d < width; d++) value -= mean[d]! * weight[d * outputs + k]!;
    return value;
  });
  return { weight, bias };
}

/** The multiple of the ridge outputs with the least cross-entropy, from a fixed grid. */
function bestScale(
  features: Float32Array,
  target: TargetRow,
  weight: Float64Array,
  bias: Float64Array,
): number {
  const outputs = bias.length;
  const width = weight.length / outputs;
  const n = Math.min(features.length / width, 1000);
  const rows: Float64Array[] = [];
  for (let i = 0; i < n; i++) {
    const row = Float64Array.from(bias);
    for (let d = 0; d < width; d++) {
      const value = features[i * width + d]!;
      if (value !== 0) for (let k = 0; k < outputs; k++) row[k]! += value * weight[d * outputs + k]!;
    }
    rows.push(row);
  }
  const crossEntropy = (scale: number): number =>
    rows.reduce((sum, row, i) => {
      const max = scale * Math.max(...row);
      const total = row.reduce((s, value) => s + Math.exp(scale * value - max), 0);
      const right = target(i).reduce(
        (s, probability, k) => (probability > 0 ? s + probability * row[k]! : s),
        0,
      );
      return sum + max + Math.log(total) - scale * right;
    }, 0);
  const grid = [1, 2, 3, 4, 6, 8, 12];
  return grid.reduce((best, scale) => (crossEntropy(scale) < crossEntropy(best) ? scale : best));
}

function assign(variable: tf.Variable, values: Float64Array, scale: number): void {
  const tensor = tf.tensor(
    Float32Array.from(values, (v) => v * scale),
    variable.shape,
  );
  variable.assign(tensor);
  tensor.dispose();
}
