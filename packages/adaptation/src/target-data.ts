import type { Preprocessing } from '@ntaa/contracts';
import {
  BatchLoader,
  mix,
  PackedImages,
  type AugmentPolicy,
  type Mixed,
  type PackedHandle,
} from '@ntaa/data';
import { lookUp, tf } from '@ntaa/engine';
import { Rng } from '@ntaa/random';
import type { Sampler, SliceColumn, Targets, Task, Truth } from '@ntaa/tasks';

interface SplitIndices {
  readonly train: readonly number[];
  readonly validation: readonly number[];
  readonly test: readonly number[];
}

/** An image set and what a task wants to know of it, decoded once at every resolution the search may use. */
export interface TargetData extends Targets {
  readonly splits: SplitIndices;
  /**
   * Only of domain adaptation: 1 for images of the target, whose labels are not known here; 0 for those of the source.
   */
  readonly unlabelled?: Uint8Array;
  /** One pack a resolution (px; the width), images in the same order. */
  readonly packs: ReadonlyMap<number, PackedImages>;
  /** Height : width of the packs; without, 1. */
  readonly aspect?: number;
  /** Everything of the preprocessing but width and height. */
  readonly preprocessing: Omit<Preprocessing, 'width' | 'height'>;
  readonly policy: AugmentPolicy;
  /** By which quality is told apart in the end. */
  readonly sliceColumns?: readonly SliceColumn[];
}

/** A target as another thread gets it: structured-clonable. */
export interface DataHandle extends Omit<TargetData, 'packs' | 'aspect' | 'sliceColumns'> {
  readonly packs: ReadonlyMap<number, PackedHandle>;
}

export function handleOf(data: TargetData): DataHandle {
  // Only what is listed: what prepared a target adds functions of its own, which cannot be sent.
  const { labels, labelOf, cameraOf, roleOf, classWeights, guess, unlabelled } = data;
  return {
    ...{ labels, labelOf, splits: data.splits, preprocessing: data.preprocessing, policy: data.policy },
    ...(cameraOf && { cameraOf }),
    ...(roleOf && { roleOf }),
    ...(classWeights && { classWeights }),
    ...(guess !== undefined && { guess }),
    ...(unlabelled && { unlabelled }),
    packs: new Map([...data.packs].map(([resolution, packed]) => [resolution, packed.handle])),
  };
}

/** The target of another thread. Its packs are the caller's to close. */
export const attachData = (handle: DataHandle): TargetData => ({
  ...handle,
  packs: new Map([...handle.packs].map(([resolution, pack]) => [resolution, PackedImages.attach(pack)])),
});

/** Images for one evaluation forward pass: enough to keep the kernels busy, few enough to stay in cache. */
const EVAL_BATCH = 100;

/** A training batch, or the part of it that is of one domain. */
export interface BatchPart {
  /** [n, height, width, 3]. */
  images: tf.Tensor4D;
  labels: Float32Array;
  /** Where the images are mixtures of two: of which, and how much of each. */
  mixed: Mixed | undefined;
  unlabelled: boolean;
}

interface Stream {
  indices: readonly number[];
  unlabelled: boolean;
  /** Images of a step. */
  batchSize: number;
  path: readonly (string | number)[];
  sampler: Sampler | undefined;
  loaders: Map<number, BatchLoader>;
}

/**
 * Augmented training batches at any resolution. The same step gives the same images under the same random view at
 * every resolution, so that all subnets of a sandwich step, teacher included, see one batch. Where there are two
 * domains, half of a batch is of each, and each half is a part of its own.
 */
export class TrainingBatches {
  readonly #data: TargetData;
  readonly #streams: Stream[];
  readonly batchSize: number;

  constructor(
    data: TargetData,
    indices: readonly number[],
    batchSize: number,
    path: readonly (string | number)[],
    task: Task,
  ) {
    this.#data = data;
    const { unlabelled } = data;
    const size = Math.min(batchSize, indices.length);
    const stream = (of: readonly number[], images: number, name: Stream['path'], blind: boolean): Stream => ({
      ...{ indices: of, batchSize: images, path: [...path, ...name], unlabelled: blind, loaders: new Map() },
      sampler: task.sampler?.({ indices: of, targets: data, batchSize: images, path: [...path, ...name] }),
    });
    if (!unlabelled) {
      this.batchSize = size;
      this.#streams = [stream(indices, size, [], false)];
      return;
    }
    const half = Math.max(1, size >> 1);
    this.batchSize = 2 * half;
    this.#streams = [false, true].map((blind) =>
      stream(
        indices.filter((i) => (unlabelled[i] === 1) === blind),
        half,
        [blind ? 'target' : 'source'],
        blind,
      ),
    );
  }

  get targets(): Targets {
    return this.#data;
  }

  /**
   * The images at places `from` to `to` of a step's batch, mixed with each other with probability `mixing`. Caller
   * disposes the images.
   */
  batch(step: number, resolution: number, from = 0, to = this.batchSize, mixing = 0): BatchPart[] {
    const share = 1 / this.#streams.length;
    return this.#streams.map((stream) => {
      const [first, last] = [Math.round(from * share), Math.round(to * share)];
      const { images, labels } = this.#loader(stream, resolution).batch(step, first, last);
      const { width, height } = packAt(this.#data, resolution);
      const rng = new Rng(...stream.path, 'mix', step, first);
      const mixed = rng.uniform() < mixing ? mix(images, labels.length, { width, height }, rng) : undefined;
      const shape: [number, number, number, number] = [labels.length, height, width, 3];
      return { images: tf.tensor4d(images, shape), labels, mixed, unlabelled: stream.unlabelled };
    });
  }

  #loader(stream: Stream, resolution: number): BatchLoader {
    let loader = stream.loaders.get(resolution);
    if (!loader) {
      const { mean, std } = this.#data.preprocessing;
      const { indices, batchSize, path, sampler } = stream;
      loader = new BatchLoader({
        ...{ packed: packAt(this.#data, resolution), labels: this.#data.labelOf, indices, batchSize },
        ...{ mean, std, seed: path, policy: this.#data.policy },
        ...(sampler && { sampler }),
      });
      stream.loaders.set(resolution, loader);
    }
    return loader;
  }
}

/** Unaugmented images of `indices`, in order, in batches [<=100, height, width, 3]. Each tensor is disposed when the next is asked for. */
export function* evaluationBatches(
  data: TargetData,
  indices: readonly number[],
  resolution: number,
  batchSize = EVAL_BATCH,
): Generator<tf.Tensor4D> {
  const tables = normalisedBytes(data.preprocessing);
  const packed = packAt(data, resolution);
  for (let start = 0; start < indices.length; start += batchSize) {
    const chunk = indices.slice(start, start + batchSize);
    const bytes = new Uint8Array(chunk.length * packed.stride);
    chunk.forEach((index, i) => packed.read(index, bytes, i * packed.stride));
    const tensor = lookUp(bytes, tables, [chunk.length, packed.height, packed.width, 3]);
    try {
      yield tensor;
    } finally {
      tensor.dispose();
    }
  }
}

/** What each byte becomes, channel after channel. */
function normalisedBytes({ mean, std, scale }: TargetData['preprocessing']): Float32Array {
  const value = (channel: number, byte: number) => (byte * scale - mean[channel]!) / std[channel]!;
  return Float32Array.from({ length: 768 }, (_, i) => value(i >> 8, i & 255));
}

/** What is known of `indices`, in order. */
export function truthOf(data: TargetData, indices: readonly number[]): Truth {
  const { labelOf, cameraOf, roleOf, classWeights, guess } = data;
  return {
    labels: Float32Array.from(indices, (i) => labelOf[i]!),
    ...(cameraOf && { cameras: Int32Array.from(indices, (i) => cameraOf[i]!) }),
    ...(roleOf && { roles: Uint8Array.from(indices, (i) => roleOf[i]!) }),
    ...(classWeights && { classWeights }),
    ...(guess !== undefined && { guess }),
  };
}

/** Of two domains: the images whose labels are known. */
export const labelled = ({ unlabelled }: TargetData, indices: readonly number[]): readonly number[] =>
  unlabelled ? indices.filter((i) => unlabelled[i] === 0) : indices;

/** Of two domains: the images that are like those the model is for. */
export const deployed = ({ unlabelled }: TargetData, indices: readonly number[]): readonly number[] =>
  unlabelled ? indices.filter((i) => unlabelled[i] === 1) : indices;

function packAt(data: TargetData, resolution: number): PackedImages {
  const packed = data.packs.get(resolution);
  if (!packed)
    throw new Error(`no images were packed at ${resolution} px; packed: ${[...data.packs.keys()]}`);
  return packed;
}
