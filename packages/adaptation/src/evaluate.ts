import type { Genotype } from '@ntaa/contracts';
import { tf } from '@ntaa/engine';
import { CALIBRATION_IMAGES, meanOf, standardError } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { BnStatistics, calibrate, type NamedTensors, type Supernet } from '@ntaa/supernet';
import type { Judged, Task } from '@ntaa/tasks';
import { chooseProbe, type ProbeImages } from './probe.js';
import { apply } from './regression.js';
import { deployed, evaluationBatches, labelled, truthOf, type TargetData } from './target-data.js';

/** Images the final networks' batch norms are calibrated on, of training and validation together. */
export const FINAL_CALIBRATION = 2000;

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
 * Recalibrates an architecture, unless its batch norms are `settled`, and has it answer `indices`, in order. Where there are two domains, each is answered with
 * its own statistics; `bn` are those of the domain that the model is for. Caller disposes of them.
 */
export function answers(
  net: Supernet,
  genotype: Genotype,
  data: TargetData,
  reads: Task['reads'],
  indices: readonly number[],
  calibration: readonly number[],
  settled?: NamedTensors,
): { predictions: Float32Array; bn: BnStatistics } {
  const bn = settled
    ? BnStatistics.load(settled)
    : recalibrate(net, genotype, data, deployed(data, calibration));
  const own = deployed(data, indices);
  const found = predictAll(net, genotype, bn, data, own, reads);
  if (!data.unlabelled) return { predictions: found, bn };
  const source = labelled(data, indices);
  const bnOfSource = recalibrate(net, genotype, data, labelled(data, calibration));
  const ofSource = predictAll(net, genotype, bnOfSource, data, source, reads);
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

/** The images by which candidates are judged, those of validation among them. */
export interface Exam {
  calibration: readonly number[];
  validation: readonly number[];
  /** Training images that every candidate gets a classifier of its own from; without, the network's is judged. */
  probe?: readonly number[];
}

/** What a candidate costs, in images that it is shown. */
export const imagesOf = ({ calibration, validation, probe = [] }: Exam): number =>
  calibration.length + validation.length + probe.length;

/** The exam of networks that are trained with their classifier. */
export const fullExam = ({ splits: { train, validation } }: TargetData, seed: number): Exam => ({
  calibration: calibrationSubset(train, seed),
  validation,
});

/** Recalibrates one architecture and judges its answers for validation images, one by one. */
export function judgeCandidate(
  net: Supernet,
  genotype: Genotype,
  data: TargetData,
  task: Task,
  { calibration, validation, probe }: Exam,
  settled?: NamedTensors,
): Judged {
  const { predictions, bn } =
    probe && task.reads === 'logits'
      ? probed(net, genotype, data, task, { calibration, validation, probe })
      : answers(net, genotype, data, task.reads, validation, calibration, settled);
  bn.dispose();
  return task.judge(predictions, truthOf(data, validation));
}

/** What a candidate is worth: the pure function the search optimises. */
export function evaluateCandidate(...given: Parameters<typeof judgeCandidate>): Evaluation {
  const { losses, quality, summary } = judgeCandidate(...given);
  return { loss: meanOf(losses), error: standardError(losses), quality, metrics: summary };
}

/** Answers on validation images by a classifier that was fitted to the features of others. Caller disposes of `bn`. */
function probed(
  net: Supernet,
  genotype: Genotype,
  data: TargetData,
  task: Task,
  { calibration, validation, probe }: Required<Exam>,
): { predictions: Float32Array; bn: BnStatistics } {
  const train = labelled(data, probe);
  const { features, bn } = featuresOf(net, genotype, data, [...train, ...validation], calibration);
  const known = labelled(data, validation);
  const { classifier } = chooseProbe(task, net.outputs, features(train), features(known));
  return { predictions: Float32Array.from(apply(classifier, features(validation).features)), bn };
}

/** Features of `indices` behind recalibrated batch norms, to be asked for by image. Caller disposes of `bn`. */
export function featuresOf(
  net: Supernet,
  genotype: Genotype,
  data: TargetData,
  indices: readonly number[],
  calibration: readonly number[],
): { features: (of: readonly number[]) => ProbeImages; bn: BnStatistics } {
  const { predictions, bn } = answers(net, genotype, data, 'features', indices, calibration);
  const { width } = net.space.head;
  const row = new Map(indices.map((index, i) => [index, i]));
  const features = (of: readonly number[]): ProbeImages => {
    const out = new Float32Array(of.length * width);
    of.forEach((index, i) => {
      const from = row.get(index)! * width;
      out.set(predictions.subarray(from, from + width), i * width);
    });
    return { features: out, truth: truthOf(data, of) };
  };
  return { features, bn };
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
