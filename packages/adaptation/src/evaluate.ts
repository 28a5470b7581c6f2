import type { Genotype } from '@ntaa/contracts';
import { tf } from '@ntaa/engine';
import { CALIBRATION_IMAGES } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { calibrate, type BnStatistics, type Supernet } from '@ntaa/supernet';
import type { Task } from '@ntaa/tasks';
import { evaluationBatches, labelsOf, type TargetData } from './target-data.js';

/** A fixed seeded subset of `indices`, so that a candidate's score is a function of (genotype, weights, data, seed) alone. */
export function calibrationSubset(
  indices: readonly number[],
  seed: number,
  limit = CALIBRATION_IMAGES,
): number[] {
  if (indices.length <= limit) return [...indices];
  return new Rng(seed, 'calibration').shuffle([...indices]).slice(0, limit);
}

/** BN recalibration: statistics of `genotype` over unaugmented training images. Caller disposes. */
export function recalibrate(
  net: Supernet,
  genotype: Genotype,
  data: TargetData,
  indices: readonly number[],
): BnStatistics {
  return calibrate(net, genotype, evaluationBatches(data, indices, genotype.resolution));
}

/** Outputs of the network for `indices`, in order: [n * outputs]. */
export function predictAll(
  net: Supernet,
  genotype: Genotype,
  bn: BnStatistics,
  data: TargetData,
  indices: readonly number[],
): Float32Array {
  const out = new Float32Array(indices.length * net.outputs);
  let row = 0;
  for (const images of evaluationBatches(data, indices, genotype.resolution)) {
    const logits = tf.tidy(() => net.forward(images, genotype, bn).logits);
    out.set(logits.dataSync(), row * net.outputs);
    row += images.shape[0];
    logits.dispose();
  }
  return out;
}

export interface Evaluation {
  /** Mean validation loss, nats, and its standard error. */
  readonly loss: number;
  readonly error: number;
  readonly top1: number;
}

/** Recalibrates and judges one architecture on the validation split: the pure function the search optimises. */
export function evaluateCandidate(
  net: Supernet,
  genotype: Genotype,
  data: TargetData,
  task: Task,
  calibration: readonly number[],
): Evaluation {
  const bn = recalibrate(net, genotype, data, calibration);
  try {
    const labels = labelsOf(data, data.splits.validation);
    const predictions = predictAll(net, genotype, bn, data, data.splits.validation);
    const metrics = task.metrics(predictions, labels, net.outputs);
    return { loss: metrics.loss, error: standardError(task.losses(predictions, labels)), top1: metrics.top1 };
  } finally {
    bn.dispose();
  }
}

function standardError(values: Float32Array): number {
  const n = values.length;
  const mean = values.reduce((sum, v) => sum + v, 0) / n;
  const squares = values.reduce((sum, v) => sum + (v - mean) ** 2, 0);
  return n > 1 ? Math.sqrt(squares / (n - 1) / n) : Infinity;
}
