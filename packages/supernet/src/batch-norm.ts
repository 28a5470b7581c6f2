/** Batch-norm statistics of one genotype: measured on batches, used at inference. */
import type { Genotype } from '@ntaa/contracts';
import { tf } from '@ntaa/engine';
import type { Supernet } from './supernet.js';
import { plain, requireTensor, type NamedTensors } from './tensors.js';

export const BN_EPSILON = 1e-5;

interface Moments {
  mean: tf.Tensor1D;
  variance: tf.Tensor1D;
}

/** The statistics of every batch norm that one genotype passes, by name. Owns its tensors: dispose of it. */
export class BnStatistics {
  readonly #moments: ReadonlyMap<string, Moments>;

  constructor(moments: ReadonlyMap<string, Moments>) {
    this.#moments = moments;
  }

  /** Throws Error when this genotype was not calibrated: a missing name or another number of channels. */
  get(name: string, channels: number): Moments {
    const moments = this.#moments.get(name);
    if (moments?.mean.size !== channels)
      throw new Error(`no statistics of ${name} with ${channels} channels: calibrate this genotype first`);
    return moments;
  }

  /** `<name>.mean` and `<name>.variance` of each, by name: whether measured or loaded, the same bytes. */
  tensors(): NamedTensors {
    const result: NamedTensors = new Map();
    for (const [name, moments] of [...this.#moments].sort(([a], [b]) => (a < b ? -1 : 1)))
      for (const key of ['mean', 'variance'] as const) result.set(`${name}.${key}`, plain(moments[key]));
    return result;
  }

  /** Inverse of `tensors`; other names are left alone. Throws Error when half of a pair is missing. */
  static load(tensors: NamedTensors): BnStatistics {
    const names = [...tensors.keys()].filter((key) => key.endsWith('.mean')).map((key) => key.slice(0, -5));
    const moments = names.map((name): [string, Moments] => {
      const { shape, data } = tensors.get(`${name}.mean`)!;
      const variance = requireTensor(tensors, `${name}.variance`, shape).data;
      return [name, { mean: kept(tf.tensor1d(data)), variance: kept(tf.tensor1d(variance)) }];
    });
    return new BnStatistics(new Map(moments));
  }

  dispose(): void {
    for (const { mean, variance } of this.#moments.values()) tf.dispose([mean, variance]);
  }
}

interface Sums {
  mean: Float64Array;
  variance: Float64Array;
  images: number;
}

/** Averages batch means and variances over several batches of one genotype, each weighted by its images. */
export class BnCollector {
  readonly #sums = new Map<string, Sums>();

  /** Adds one batch's statistics. */
  add(name: string, mean: ArrayLike<number>, variance: ArrayLike<number>, images: number): void {
    let sums = this.#sums.get(name);
    if (!sums) {
      const zeros = () => new Float64Array(mean.length);
      sums = { mean: zeros(), variance: zeros(), images: 0 };
      this.#sums.set(name, sums);
    }
    for (let c = 0; c < mean.length; c++) {
      sums.mean[c]! += images * mean[c]!;
      sums.variance[c]! += images * variance[c]!;
    }
    sums.images += images;
  }

  /** The averages; the collector is empty again. Throws Error when nothing was added. */
  finish(): BnStatistics {
    if (this.#sums.size === 0) throw new Error('batch-norm statistics need at least one batch');
    const moments = [...this.#sums].map(([name, { mean, variance, images }]): [string, Moments] => {
      const average = (sum: Float64Array) =>
        kept(tf.tensor1d(Float32Array.from(sum, (value) => value / images)));
      return [name, { mean: average(mean), variance: average(variance) }];
    });
    this.#sums.clear();
    return new BnStatistics(new Map(moments));
  }
}

/** Outlives any tidy it was made in: it belongs to a collector or to statistics. */
function kept<T extends tf.Tensor>(tensor: T): T {
  return tf.keep(tensor);
}

/**
 * Batch-norm recalibration: the statistics of this genotype over these batches [N,H,W,3], run with batch statistics
 * throughout. To be done before every evaluation. The batches stay the caller's, each needed only until the next is
 * asked for.
 */
export function calibrate(net: Supernet, genotype: Genotype, batches: Iterable<tf.Tensor4D>): BnStatistics {
  const collector = new BnCollector();
  for (const batch of batches)
    tf.tidy(() => {
      net.forward(batch, genotype, collector);
    });
  return collector.finish();
}
