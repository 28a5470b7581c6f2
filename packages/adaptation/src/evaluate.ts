import type { Genotype } from '@ntaa/contracts';
import { tf } from '@ntaa/engine';
import { CALIBRATION_IMAGES, meanOf, standardError } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { calibrate, type BnStatistics, type Supernet } from '@ntaa/supernet';
import type { Task } from '@ntaa/tasks';
import { deployed, evaluationBatches, labelled, truthOf, type TargetData } from './target-data.js';

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

/** What the network makes of `indices`, in order: logits [n * outputs] or features [n * head width]. */
export function predictAll(
  net: Supernet,
  genotype: Genotype,
  bn: BnStatistics,
  data: TargetData,
  indices: readonly number[],
  reads: Task['reads'] = 'logits',
): Float32Array {
  const width = reads === 'logits' ? net.outputs : net.space.head.width;
  const out = new Float32Array(indices.length * width);
  let row = 0;
  for (const images of evaluationBatches(data, indices, genotype.resolution)) {
    const answers = tf.tidy(() => net.forward(images, genotype, bn)[reads]);
    out.set(answers.dataSync(), row * width);
    row += images.shape[0];
    answers.dispose();
  }
  return out;
}

/**
 * Recalibrates an architecture and has it answer `indices`, in order. Where there are two domains, each is answered with
 * its own statistics; `bn` are those of the domain that the model is for. Caller disposes of them.
 */
export function answers(
  net: Supernet,
  genotype: Genotype,
  data: TargetData,
  task: Task,
  indices: readonly number[],
  calibration: readonly number[],
): { predictions: Float32Array; bn: BnStatistics } {
  const bn = recalibrate(net, genotype, data, deployed(data, calibration));
  const own = deployed(data, indices);
  const found = predictAll(net, genotype, bn, data, own, task.reads);
  if (!data.unlabelled) return { predictions: found, bn };
  const source = labelled(data, indices);
  const bnOfSource = recalibrate(net, genotype, data, labelled(data, calibration));
  const ofSource = predictAll(net, genotype, bnOfSource, data, source, task.reads);
  bnOfSource.dispose();
  const width = found.length / own.length;
  const predictions = new Float32Array(indices.length * width);
  let [fromOwn, fromSource] = [0, 0];
  indices.forEach((index, i) => {
    const row =
      data.unlabelled![index] === 1 ? ([found, fromOwn++] as const) : ([ofSource, fromSource++] as const);
    predictions.set(row[0].subarray(row[1] * width, (row[1] + 1) * width), i * width);
  });
  return { predictions, bn };
}

export interface Evaluation {
  /** What is minimised, and its standard error: the mean over validation images (or queries). */
  readonly loss: number;
  readonly error: number;
  /** A share, 1 is perfect: for progress. */
  readonly quality: number;
  /** By the task; shown with candidates. */
  readonly metrics: Readonly<Record<string, number>>;
}

/** Recalibrates and judges one architecture on the validation split: the pure function the search optimises. */
export function evaluateCandidate(
  net: Supernet,
  genotype: Genotype,
  data: TargetData,
  task: Task,
  calibration: readonly number[],
): Evaluation {
  const { validation } = data.splits;
  const { predictions, bn } = answers(net, genotype, data, task, validation, calibration);
  bn.dispose();
  const { losses, quality, summary } = task.judge(predictions, truthOf(data, validation));
  return { loss: meanOf(losses), error: standardError(losses), quality, metrics: summary };
}

/** Fitness that is relative changes with whom one is compared to: sets it anew for all of them. */
export function rescore(
  task: Task,
  records: { loss: number; error: number; metrics: Readonly<Record<string, number>> }[],
): void {
  task.rescore?.(records).forEach((fitness, i) => {
    records[i]!.loss = -fitness;
    records[i]!.error = 0;
  });
}
