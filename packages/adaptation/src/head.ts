import type { Genotype } from '@ntaa/contracts';
import { tf } from '@ntaa/engine';
import type { Supernet } from '@ntaa/supernet';
import { predictAll, recalibrate } from './evaluate.js';
import { crossEntropyOfRows } from './cross-entropy.js';
import { apply, normalEquations, solve, type TargetRow } from './regression.js';
import type { Affine, Task } from '@ntaa/tasks';
import { labelled, truthOf, type TargetData } from './target-data.js';

/** Relative to the mean feature energy: enough to be stable with fewer images than features. */
const RIDGE = 0.05;
/** Images that the scale is chosen by. */
const SCALED_BY = 1000;

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
  const features = predictAll(net, genotype, bn, data, known, 'features');
  bn.dispose();
  const width = features.length / labels.length;
  const row = new Float64Array(net.outputs);
  const target: TargetRow = (i) => {
    task.headTarget(labels[i]!, row);
    return row;
  };
  const regression = solve(normalEquations(features, target, width, net.outputs), RIDGE);
  writeClassifier(net, regression, bestScale(features, target, regression));
}

/** Makes `scale` times this the network's classifier. */
export function writeClassifier(net: Supernet, { weight, bias }: Affine, scale = 1): void {
  assign(net.variable('classifier.weight'), weight, scale);
  assign(net.variable('classifier.bias'), bias, scale);
}

const SCALES = [1, 2, 3, 4, 6, 8, 12];
/** The multiple of the ridge outputs with the least cross-entropy, from a fixed grid. */
function bestScale(features: Float32Array, target: TargetRow, regression: Affine): number {
  const width = regression.weight.length / regression.bias.length;
  const values = apply(regression, features.subarray(0, SCALED_BY * width));
  const loss = (scale: number): number => crossEntropyOfRows(values, target, scale);
  return SCALES.reduce((best, scale) => (loss(scale) < loss(best) ? scale : best));
}

function assign(variable: tf.Variable, values: Float64Array, scale: number): void {
  const tensor = tf.tensor(
    Float32Array.from(values, (v) => v * scale),
    variable.shape,
  );
  variable.assign(tensor);
  tensor.dispose();
}
