import type { AugmentPolicy } from './augment.js';
import type { PackedImages } from './pack.js';

export interface Batch {
  /** [n, height, width, 3], normalised. */
  images: Float32Array;
  /** [n] */
  labels: Int32Array;
}
export interface BatchLoaderOptions {
  packed: PackedImages;
  /** Label of every packed image. */
  labels: Int32Array;
  /** The packed images to draw from. */
  indices: readonly number[];
  batchSize: number;
  mean: ArrayLike<number>;
  std: ArrayLike<number>;
  /** Path of the random numbers, e.g. [seed, 'transfer']. */
  seed: readonly (string | number)[];
  /** null: no augmentation. */
  policy: AugmentPolicy | null;
}
export class BatchLoader {
  constructor(_options: BatchLoaderOptions) {}
  /** Batch of training step `step` (from 0), always of batchSize images: a pure function of (seed, step). */
  batch(_step: number): Batch {
    throw new Error('being written');
  }
  /** All images once, in the order of `indices`, not augmented; the last batch may be smaller. */
  *inOrder(): Generator<Batch> {}
}
