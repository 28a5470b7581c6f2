/**
 * The closed-form probe of linear evaluation: ridge regression from the features of a frozen network to what the task
 * asks for, which becomes the network's classifier.
 */
import { meanOf } from '@ntaa/nas';
import type { Affine, Task, Truth } from '@ntaa/tasks';
import { crossEntropyOfRows } from './cross-entropy.js';
import { apply, normalEquations, solve, type TargetRow } from './regression.js';

/** Penalties relative to the mean energy of a feature, and multiples of the outputs that are to be logits. */
const PENALTIES = [0.001, 0.01, 0.1];
const SCALES = [1, 2, 3, 4, 6, 8, 12, 16, 24];

/** Features [n * width] of images whose labels are known, and what is known. */
export interface ProbeImages {
  features: Float32Array;
  truth: Truth;
}

/** What was chosen on validation images. */
interface ProbeChoice {
  penalty: number;
  scale: number;
}

/** A probe over the images, by every penalty and scale; those with the least loss on the validation images. */
export function chooseProbe(
  task: Task,
  outputs: number,
  train: ProbeImages,
  validation: ProbeImages,
): { classifier: Affine; choice: ProbeChoice } {
  const equations = equationsOf(task, outputs, train);
  const scales = task.classifierOf ? [1] : SCALES;
  let best: { classifier: Affine; choice: ProbeChoice } | undefined;
  let least = Infinity;
  for (const penalty of PENALTIES) {
    const regression = solve(equations, penalty);
    const answers = apply(regression, validation.features);
    for (const scale of scales) {
      const loss = lossOf(task, answers, validation.truth, scale);
      if (best && !(loss < least)) continue;
      least = loss;
      best = { classifier: classifierOf(task, outputs, regression, scale), choice: { penalty, scale } };
    }
  }
  return best!;
}

/** The probe over other images with what was chosen before. */
export const fitProbe = (task: Task, outputs: number, train: ProbeImages, choice: ProbeChoice): Affine =>
  classifierOf(task, outputs, solve(equationsOf(task, outputs, train), choice.penalty), choice.scale);

function equationsOf(task: Task, outputs: number, { features, truth }: ProbeImages) {
  const { labels, classWeights } = truth;
  const width = features.length / labels.length;
  const row = new Float64Array(task.classifierOf ? 1 : outputs);
  const weights = labels.map((label) => classWeights?.[label] ?? 1);
  const mean = meanOf(weights);
  return normalEquations(features, targets(task, labels, row), width, row.length, (i) => weights[i]! / mean);
}

const targets =
  (task: Task, labels: Float32Array, row: Float64Array): TargetRow =>
  (i) => {
    if (task.classifierOf) row[0] = labels[i]!;
    else task.headTarget(labels[i]!, row);
    return row;
  };

/** Mean absolute error of a number; cross-entropy of classes, each image by the weight of its class. */
function lossOf(task: Task, answers: Float64Array, { labels, classWeights }: Truth, scale: number): number {
  if (task.classifierOf) return meanOf(labels.map((label, i) => Math.abs(answers[i]! - label)));
  const row = new Float64Array(answers.length / labels.length);
  const target = targets(task, labels, row);
  return crossEntropyOfRows(answers, target, scale, (i) => classWeights?.[labels[i]!] ?? 1);
}

function classifierOf(task: Task, outputs: number, regression: Affine, scale: number): Affine {
  if (task.classifierOf) return task.classifierOf(regression, outputs);
  return { weight: regression.weight.map((w) => w * scale), bias: regression.bias.map((b) => b * scale) };
}
