import type { Preprocessing } from '@ntaa/contracts';
import { BatchLoader, PackedImages, type AugmentPolicy, type PackedHandle } from '@ntaa/data';
import { lookUp, tf } from '@ntaa/engine';

interface SplitIndices {
  readonly train: readonly number[];
  readonly validation: readonly number[];
  readonly test: readonly number[];
}

/** A labelled image set, decoded once at every resolution the search may use. */
export interface TargetData {
  readonly labels: readonly string[];
  /** Class of each image. */
  readonly labelOf: Int32Array;
  readonly splits: SplitIndices;
  /** One pack a resolution (px), images in the same order. */
  readonly packs: ReadonlyMap<number, PackedImages>;
  /** Everything of the preprocessing but width and height. */
  readonly preprocessing: Omit<Preprocessing, 'width' | 'height'>;
  readonly policy: AugmentPolicy;
}

/** A target as another thread gets it: structured-clonable. */
export interface DataHandle extends Omit<TargetData, 'packs'> {
  readonly packs: ReadonlyMap<number, PackedHandle>;
}

export const handleOf = (data: TargetData): DataHandle => ({
  // Only what is listed: what prepared a target adds functions of its own, which cannot be sent.
  labels: data.labels,
  labelOf: data.labelOf,
  splits: data.splits,
  preprocessing: data.preprocessing,
  policy: data.policy,
  packs: new Map([...data.packs].map(([resolution, packed]) => [resolution, packed.handle])),
});

/** The target of another thread. Its packs are the caller's to close. */
export const attachData = (handle: DataHandle): TargetData => ({
  ...handle,
  packs: new Map([...handle.packs].map(([resolution, pack]) => [resolution, PackedImages.attach(pack)])),
});

/** Images for one evaluation forward pass: enough to keep the kernels busy, few enough to stay in cache. */
const EVAL_BATCH = 100;

/**
 * Augmented training batches at any resolution. The same step gives the same images under the same random view at
 * every resolution, so that all subnets of a sandwich step, teacher included, see one batch.
 */
export class TrainingBatches {
  readonly #loaders = new Map<number, BatchLoader>();
  readonly #data: TargetData;
  readonly #indices: readonly number[];
  readonly #path: readonly (string | number)[];
  readonly batchSize: number;

  constructor(
    data: TargetData,
    indices: readonly number[],
    batchSize: number,
    path: readonly (string | number)[],
  ) {
    this.#data = data;
    this.#indices = indices;
    this.#path = path;
    this.batchSize = Math.min(batchSize, indices.length);
  }

  /** The images at places `from` to `to` of a step's batch. Caller disposes `images` [n, r, r, 3]. */
  batch(
    step: number,
    resolution: number,
    from = 0,
    to = this.batchSize,
  ): { images: tf.Tensor4D; labels: Int32Array } {
    const { images, labels } = this.#loader(resolution).batch(step, from, to);
    return { images: tf.tensor4d(images, [labels.length, resolution, resolution, 3]), labels };
  }

  #loader(resolution: number): BatchLoader {
    let loader = this.#loaders.get(resolution);
    if (!loader) {
      const { mean, std } = this.#data.preprocessing;
      loader = new BatchLoader({
        packed: packAt(this.#data, resolution),
        labels: this.#data.labelOf,
        indices: this.#indices,
        batchSize: this.batchSize,
        mean,
        std,
        seed: this.#path,
        policy: this.#data.policy,
      });
      this.#loaders.set(resolution, loader);
    }
    return loader;
  }
}

/** Unaugmented images of `indices`, in order, in batches [<=100, r, r, 3]. Each tensor is disposed when the next is asked for. */
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
    const tensor = lookUp(bytes, tables, [chunk.length, resolution, resolution, 3]);
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

/** Labels of `indices`, in order. */
export function labelsOf(data: TargetData, indices: readonly number[]): Int32Array {
  return Int32Array.from(indices, (i) => data.labelOf[i]!);
}

function packAt(data: TargetData, resolution: number): PackedImages {
  const packed = data.packs.get(resolution);
  if (!packed)
    throw new Error(`no images were packed at ${resolution} px; packed: ${[...data.packs.keys()]}`);
  return packed;
}
