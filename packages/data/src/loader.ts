import { Rng } from '@ntaa/random';
import { augment, normalise, type AugmentPolicy } from './augment.js';
import type { PackedImages } from './pack.js';

export interface Batch {
  /** [n, height, width, 3], normalised. */
  images: Float32Array;
  /** [n]: class numbers, or what else the images are labelled with. */
  labels: Float32Array;
  /** Which packed images these are, [n]. */
  indices: Int32Array;
}

export interface BatchLoaderOptions {
  packed: PackedImages;
  /** Label of every packed image. */
  labels: ArrayLike<number>;
  /** The packed images to draw from. */
  indices: ArrayLike<number>;
  /** Draws the `batchSize` images of a step; a pure function. Default: seeded shuffles of all, laid end to end. */
  sampler?: (step: number) => ArrayLike<number>;
  batchSize: number;
  mean: ArrayLike<number>;
  std: ArrayLike<number>;
  /** Path of the random numbers, e.g. [seed, 'transfer']. */
  seed: readonly (string | number)[];
  /** null: no augmentation. */
  policy: AugmentPolicy | null;
}

/** Batches of packed images. Keeps no state that matters: what it gives depends on its options and the arguments only. */
export class BatchLoader {
  readonly #options: BatchLoaderOptions;
  readonly #pixels: Uint8Array;
  #epoch = -1;
  #order = new Int32Array(0);

  constructor(options: BatchLoaderOptions) {
    if (options.indices.length === 0) throw new RangeError('a loader needs at least one image');
    if (!(Number.isInteger(options.batchSize) && options.batchSize > 0))
      throw new RangeError(`batchSize ${options.batchSize} is not a positive integer`);
    if (options.labels.length !== options.packed.count)
      throw new RangeError(`${options.labels.length} labels for ${options.packed.count} packed images`);
    this.#options = options;
    this.#pixels = new Uint8Array(options.packed.stride);
  }

  /** Images drawn from. */
  get count(): number {
    return this.#options.indices.length;
  }

  /**
   * Batch of training step `step` (from 0), of batchSize images, or those at places `from` to `to` of it: a pure
   * function of (seed, step). Epochs are seeded shuffles laid end to end, so a batch may reach into the next epoch.
   */
  batch(step: number, from = 0, to = this.#options.batchSize): Batch {
    const { batchSize, policy, seed, sampler } = this.#options;
    const drawn = sampler?.(step);
    const chosen = Int32Array.from(
      { length: to - from },
      (_, i) => drawn?.[from + i] ?? this.#at(step * batchSize + from + i),
    );
    return this.#gather(chosen, (i) => policy && new Rng(...seed, 'augment', step, from + i));
  }

  /** All images once, in the order of `indices`, not augmented; the last batch may be smaller. */
  *inOrder(): Generator<Batch> {
    const { batchSize, indices } = this.#options;
    const all = Int32Array.from(indices);
    for (let from = 0; from < all.length; from += batchSize)
      yield this.#gather(all.slice(from, from + batchSize), () => null);
  }

  /** The image at a position of the endless sequence of epochs. */
  #at(position: number): number {
    const { indices, seed } = this.#options;
    const epoch = Math.floor(position / indices.length);
    if (epoch !== this.#epoch) {
      this.#order = new Rng(...seed, 'order', epoch).shuffle(Int32Array.from(indices));
      this.#epoch = epoch;
    }
    return this.#order[position - epoch * indices.length]!;
  }

  #gather(chosen: Int32Array, rngOf: (i: number) => Rng | null): Batch {
    const { packed, labels, mean, std, policy } = this.#options;
    const images = new Float32Array(chosen.length * packed.stride);
    for (let i = 0; i < chosen.length; i++) {
      packed.read(chosen[i]!, this.#pixels, 0);
      const rng = rngOf(i);
      if (rng) augment(this.#pixels, packed, rng, policy!, images, i * packed.stride, mean, std);
      else normalise(this.#pixels, images, i * packed.stride, mean, std);
    }
    return { images, labels: Float32Array.from(chosen, (index) => labels[index]!), indices: chosen };
  }
}
