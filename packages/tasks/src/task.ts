import type { Metrics, TaskName } from '@ntaa/contracts';
import type { AugmentPolicy, Sample, Splits } from '@ntaa/data';
import type { Delivery, Loss } from '@ntaa/supernet';

/** What a task wants to know of every image of a job, by position; meaningless for images that are in no split. */
export interface Targets {
  /** Classes that the head tells apart. */
  labels: readonly string[];
  /** Class number, or what else is to be told: years. */
  labelOf: Float32Array;
  cameraOf?: Int32Array;
  /** Part in the re-identification protocol: 0 none, 1 query, 2 gallery. */
  roleOf?: Uint8Array;
  /** Weight of each class in a class-balanced loss; their mean over the training images is 1. */
  classWeights?: readonly number[];
  /** What somebody would answer who has seen no image: the median age. */
  guess?: number;
}

/** `Targets` of some images, in order. */
export interface Truth extends Omit<Targets, 'labels' | 'labelOf' | 'cameraOf' | 'roleOf'> {
  labels: Float32Array;
  cameras?: Int32Array;
  roles?: Uint8Array;
  /**
   * Of domain adaptation, and only when everything has been decided: class numbers of the target's test images (-1: not
   * known), in the order in which those images stand among the others.
   */
  heldOut?: Float32Array;
}

/** A training batch, or the part of it that is of one domain. */
export interface BatchTruth {
  labels: Float32Array;
  outputs: number;
  classWeights?: readonly number[] | undefined;
  /** Only where a job has two: whether these are of the one whose labels must not be known (they are NaN). */
  unlabelled: boolean;
  /** How much of the training is over, 0..1. */
  progress: number;
}

/** A linear map of features: weight [width * outputs], row-major, and bias [outputs]. */
export interface Affine {
  weight: Float64Array;
  bias: Float64Array;
}

/** What a network's answers are worth. */
export interface Judged {
  /** To be minimised in the mean: one value an image, or a query. */
  losses: Float32Array;
  /** For progress: a share, 1 is perfect. */
  quality: number;
  /** Shown with candidates. */
  summary: Record<string, number>;
}

/** Draws the images of a step: a pure function. Parts of a batch (see the crew's shards) begin at multiples of 4. */
export type Sampler = (step: number) => Int32Array;
export interface SamplerInput {
  indices: readonly number[];
  targets: Targets;
  batchSize: number;
  path: readonly (string | number)[];
}

/**
 * What differs between tasks: how images are labelled, drawn and augmented, what networks are trained on, and how
 * their answers are judged. One file per task implements it. Predictions are [n * width], row-major.
 */
export interface Task {
  /** `self-supervised`: of pretraining, not a task that can be asked for. */
  readonly name: TaskName | 'self-supervised';
  /** Name of the network's output in exported models, and what it is made of. */
  readonly output: 'logits' | 'embedding' | 'age';
  readonly delivery: Delivery;
  /** What answers are made of. */
  readonly reads: 'logits' | 'features';
  /** Whether a mixture of two images has the mixture of their labels (soft targets only). */
  readonly mixes?: boolean;
  /** Views under which an image keeps its label, where they differ from the usual ones. */
  readonly augmentation: Partial<AugmentPolicy>;
  /** Images of a training batch at least, where the loss compares them with each other. */
  readonly leastBatch?: number;
  /**
   * Share of finetuning, its last, in which batch norms keep the statistics they have then, where those of a few images are noise
   * that hurts more than it teaches. Begins after its first part, so below 1 - FIRST_PART. Default: none.
   */
  readonly settles?: number;
  /** Kind by which splits are stratified, of an image with this label number; null: it lacks what the task needs. */
  stratum(sample: Sample): number | null;
  /**
   * @param labels of the dataset.
   * @throws JobError when the task cannot be learnt from these splits.
   */
  targets(samples: readonly Sample[], labels: readonly string[], splits: Splits): Targets;
  /** Default: all images equally often. */
  sampler?(input: SamplerInput): Sampler;
  /** Writes the probabilities a head should answer with into `row` [outputs]: what it is fitted to at the start. */
  headTarget(label: number, row: Float64Array): void;
  /**
   * Of tasks that tell a number: the classifier of `outputs` whose answer is that of a linear regression of the number
   * (one output). What linear evaluation fits; without it, regression onto `headTarget`.
   */
  classifierOf?(regression: Affine, outputs: number): Affine;
  /** Soft targets [n * outputs] of the softmax cross-entropy, or another loss. */
  objective(batch: BatchTruth): Float32Array | Loss;
  /**
   * What subnets learn from the largest network's logits [n * outputs]; default: cross-entropy from their softmax.
   */
  distil?(teacher: Float32Array, batch: BatchTruth): Loss;
  judge(predictions: Float32Array, truth: Truth): Judged;
  /** Fitness of every architecture judged so far, where it is relative; default: minus the mean loss of each. */
  rescore?(records: readonly { metrics: Readonly<Record<string, number>> }[]): number[];
  metrics(predictions: Float32Array, truth: Truth): Metrics;
  /** For slices: which images were answered right, and by how much they were missed. */
  hits?(predictions: Float32Array, truth: Truth): { right: readonly boolean[]; errors?: Float32Array };
}
