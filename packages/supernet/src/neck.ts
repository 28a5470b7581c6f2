/**
 * The batch norm between pooled features and classifier (BNNeck; Luo et al., CVPRW 2019): scaled, never shifted. Features
 * are few, so that plain loops do. All matrices are row-major [n, width].
 */
import { BN_EPSILON } from './batch-norm.js';

/** Name of its statistics, and with `.gamma` of its scale. */
export const NECK = 'neck.bn';

export interface NeckMoments {
  mean: Float32Array;
  /** Biased. */
  variance: Float32Array;
}

export function momentsOf(x: Float32Array, width: number): NeckMoments {
  const n = x.length / width;
  const mean = new Float32Array(width);
  const variance = new Float32Array(width);
  for (let c = 0; c < width; c++) {
    let sum = 0;
    for (let i = c; i < x.length; i += width) sum += x[i]!;
    const centre = sum / n;
    let squares = 0;
    for (let i = c; i < x.length; i += width) squares += (x[i]! - centre) ** 2;
    mean[c] = centre;
    variance[c] = squares / n;
  }
  return { mean, variance };
}

/** gamma (x - mean) / sqrt(variance + eps), into `y`, which may be x. */
export function normaliseNeck(
  x: Float32Array,
  y: Float32Array,
  gamma: Float32Array,
  { mean, variance }: { mean: ArrayLike<number>; variance: ArrayLike<number> },
): void {
  const width = gamma.length;
  for (let c = 0; c < width; c++) {
    const scale = gamma[c]! / Math.sqrt(variance[c]! + BN_EPSILON);
    for (let i = c; i < x.length; i += width) y[i] = (x[i]! - mean[c]!) * scale;
  }
}

/**
 * Turns the gradient of the output `d` into that of the input x, in place; adds that of gamma to `dgamma`. `fixed`: the
 * moments are not those of x.
 */
export function neckBack(
  x: Float32Array,
  d: Float32Array,
  gamma: Float32Array,
  { mean, variance }: NeckMoments,
  dgamma: Float32Array,
  fixed = false,
): void {
  const width = gamma.length;
  const n = x.length / width;
  for (let c = 0; c < width; c++) {
    const inverse = 1 / Math.sqrt(variance[c]! + BN_EPSILON);
    let [sum, along] = [0, 0];
    for (let i = c; i < x.length; i += width) {
      sum += d[i]!;
      along += d[i]! * (x[i]! - mean[c]!) * inverse;
    }
    dgamma[c]! += along;
    if (fixed) [sum, along] = [0, 0];
    for (let i = c; i < x.length; i += width) {
      const xhat = (x[i]! - mean[c]!) * inverse;
      d[i] = gamma[c]! * inverse * (d[i]! - sum / n - (xhat * along) / n);
    }
  }
}
