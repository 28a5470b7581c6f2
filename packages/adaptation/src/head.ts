import type { Genotype } from '@ntaa/contracts';
import { tf } from '@ntaa/engine';
import { ridgeSolve } from '@ntaa/nas';
import type { Supernet } from '@ntaa/supernet';
import { recalibrate } from './evaluate.js';
import { evaluationBatches, labelsOf, type TargetData } from './target-data.js';

/** Relative to the mean feature energy: enough to be stable with fewer images than features. */
const RIDGE = 0.05;

/**
 * Sets the classifier to ridge regression onto centred one-hot labels from the features of `genotype` over `indices`,
 * scaled so that its cross-entropy on them is least (ridge outputs are probabilities, not logits). Starting the
 * transfer from a head that fits the inherited features keeps the first gradients from destroying them.
 */
export function initialiseHead(
  net: Supernet,
  genotype: Genotype,
  data: TargetData,
  indices: readonly number[],
  calibration: readonly number[],
): void {
  const labels = labelsOf(data, indices);
  const bn = recalibrate(net, genotype, data, calibration);
  const features = collectFeatures(net, genotype, bn, data, indices);
  bn.dispose();
  const width = features.length / labels.length;
  const { weight, bias } = ridgeClassifier(features, labels, width, net.outputs);
  const scale = bestScale(features, labels, weight, bias);
  for (const { name, variable } of net.params()) {
    if (name === 'classifier.weight') assign(variable, weight, scale);
    if (name === 'classifier.bias') assign(variable, bias, scale);
  }
}

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
function ridgeClassifier(features: Float32Array, labels: Int32Array, width: number, outputs: number) {
  const n = labels.length;
  const mean = new Float64Array(width);
  const prior = new Float64Array(outputs);
  for (let i = 0; i < n; i++) {
    for (let d = 0; d < width; d++) mean[d]! += features[i * width + d]! / n;
    prior[labels[i]!]! += 1 / n;
  }
  const gram = new Float64Array(width * width);
  const cross = new Float64Array(width * outputs);
  const x = new Float64Array(width);
  for (let i = 0; i < n; i++) {
    for (let d = 0; d < width; d++) x[d] = features[i * width + d]! - mean[d]!;
    for (let a = 0; a < width; a++) {
      const xa = x[a]!;
      if (xa === 0) continue;
      for (let b = 0; b <= a; b++) gram[a * width + b]! += xa * x[b]!;
      for (let k = 0; k < outputs; k++)
        cross[a * outputs + k]! += xa * ((k === labels[i]! ? 1 : 0) - prior[k]!);
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
  labels: Int32Array,
  weight: Float64Array,
  bias: Float64Array,
): number {
  const outputs = bias.length;
  const width = weight.length / outputs;
  const n = Math.min(labels.length, 1000);
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
      return sum + max + Math.log(total) - scale * row[labels[i]!]!;
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
