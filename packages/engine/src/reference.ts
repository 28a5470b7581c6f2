/**
 * Slow, obvious float64 versions of every kernel, straight from the definitions: what the start-up probe and the
 * tests compare the fast ones with. Layouts as in TensorFlow.js: NHWC, filters [kh, kw, in, out].
 */
import type { Activation } from './ops.js';

export type Values = ArrayLike<number>;

/** A convolution with zero padding; `depthwise` filters are [k, k, in, 1]. */
export interface ConvShape {
  batch: number;
  height: number;
  width: number;
  inChannels: number;
  outChannels: number;
  kernel: number;
  stride: number;
  top: number;
  left: number;
  outHeight: number;
  outWidth: number;
  depthwise: boolean;
}

const at = (values: Values, index: number) => values[index] as number;

/** Visits every product of the convolution by its indices in x, the filter and y. */
function visit(s: ConvShape, product: (x: number, filter: number, y: number) => void): void {
  for (let n = 0; n < s.batch; n++)
    for (let oh = 0; oh < s.outHeight; oh++)
      for (let ow = 0; ow < s.outWidth; ow++)
        for (let i = 0; i < s.kernel; i++)
          for (let j = 0; j < s.kernel; j++) {
            const h = oh * s.stride - s.top + i;
            const w = ow * s.stride - s.left + j;
            if (h < 0 || w < 0 || h >= s.height || w >= s.width) continue;
            const x = ((n * s.height + h) * s.width + w) * s.inChannels;
            const y = ((n * s.outHeight + oh) * s.outWidth + ow) * s.outChannels;
            const tap = (i * s.kernel + j) * s.inChannels;
            for (let c = 0; c < s.inChannels; c++) {
              if (s.depthwise) product(x + c, tap + c, y + c);
              else
                for (let d = 0; d < s.outChannels; d++) product(x + c, (tap + c) * s.outChannels + d, y + d);
            }
          }
}

/** Output and both gradients (for the output gradient dy) of a convolution. */
export function convolution(
  s: ConvShape,
  x: Values,
  filter: Values,
  dy: Values,
): { y: Float64Array; dx: Float64Array; dfilter: Float64Array } {
  const y = new Float64Array(s.batch * s.outHeight * s.outWidth * s.outChannels);
  const dx = new Float64Array(x.length);
  const dfilter = new Float64Array(filter.length);
  visit(s, (xi, fi, yi) => {
    y[yi] = at(y, yi) + at(x, xi) * at(filter, fi);
    dx[xi] = at(dx, xi) + at(dy, yi) * at(filter, fi);
    dfilter[fi] = at(dfilter, fi) + at(dy, yi) * at(x, xi);
  });
  return { y, dx, dfilter };
}

/** Value and slope of an activation. */
function activation(z: number, kind: Activation): { value: number; slope: number } {
  if (kind === 'relu') return { value: Math.max(z, 0), slope: z > 0 ? 1 : 0 };
  if (kind === 'hswish') {
    const gate = Math.min(Math.max(z + 3, 0), 6) / 6;
    return { value: z * gate, slope: z <= -3 ? 0 : z >= 3 ? 1 : (2 * z + 3) / 6 };
  }
  return { value: z, slope: 1 };
}

/** y = act(x * scale + shift) over rows x[M, C], and its gradients. */
export function affine(x: Values, scale: Values, shift: Values, kind: Activation, dy: Values) {
  const C = scale.length;
  const y = new Float64Array(x.length);
  const dx = new Float64Array(x.length);
  const dscale = new Float64Array(C);
  const dshift = new Float64Array(C);
  for (let i = 0; i < x.length; i++) {
    const c = i % C;
    const { value, slope } = activation(at(x, i) * at(scale, c) + at(shift, c), kind);
    y[i] = value;
    dx[i] = at(dy, i) * slope * at(scale, c);
    dscale[c] = at(dscale, c) + at(dy, i) * slope * at(x, i);
    dshift[c] = at(dshift, c) + at(dy, i) * slope;
  }
  return { y, dx, dscale, dshift };
}

/** Batch norm of rows x[M, C] with their own statistics, then an activation, and its gradients. */
export function batchNorm(
  x: Values,
  gamma: Values,
  beta: Values,
  opts: { epsilon: number; activation: Activation },
  dy: Values,
) {
  const C = gamma.length;
  const M = x.length / C;
  const mean = new Float64Array(C);
  const variance = new Float64Array(C);
  for (let i = 0; i < x.length; i++) mean[i % C] = at(mean, i % C) + at(x, i) / M;
  for (let i = 0; i < x.length; i++)
    variance[i % C] = at(variance, i % C) + (at(x, i) - at(mean, i % C)) ** 2 / M;
  const xhat = Float64Array.from(
    x,
    (v, i) => (v - at(mean, i % C)) / Math.sqrt(at(variance, i % C) + opts.epsilon),
  );
  const { y, dx: dz, dscale: dgamma, dshift: dbeta } = affine(xhat, gamma, beta, opts.activation, dy);
  const dx = Float64Array.from(dz, (d, i) => {
    const c = i % C;
    const spread = (at(gamma, c) * (at(dbeta, c) + at(xhat, i) * at(dgamma, c))) / M;
    return (d - spread) / Math.sqrt(at(variance, c) + opts.epsilon);
  });
  return { y, mean, variance, dx, dgamma, dbeta };
}

/** c[M,N] = op(a) * op(b), where op transposes when asked. */
export function matMul(
  a: Values,
  b: Values,
  [M, K, N]: [number, number, number],
  transposeA: boolean,
  transposeB: boolean,
): Float64Array {
  const c = new Float64Array(M * N);
  for (let m = 0; m < M; m++)
    for (let n = 0; n < N; n++)
      for (let k = 0; k < K; k++)
        c[m * N + n] =
          at(c, m * N + n) +
          at(a, transposeA ? k * M + m : m * K + k) * at(b, transposeB ? n * K + k : k * N + n);
  return c;
}

/** Mean soft-target cross entropy over rows of [N, K] and its gradient in the logits. */
export function softmaxCrossEntropy(logits: Values, targets: Values, K: number) {
  const N = logits.length / K;
  const gradient = new Float64Array(logits.length);
  let loss = 0;
  for (let n = 0; n < N; n++) {
    const row = Array.from({ length: K }, (_, k) => at(logits, n * K + k));
    const top = Math.max(...row);
    const sum = row.reduce((total, z) => total + Math.exp(z - top), 0);
    const mass = row.reduce((total, _, k) => total + at(targets, n * K + k), 0);
    row.forEach((z, k) => {
      const p = Math.exp(z - top) / sum;
      loss -= (at(targets, n * K + k) * (z - top - Math.log(sum))) / N;
      gradient[n * K + k] = (p * mass - at(targets, n * K + k)) / N;
    });
  }
  return { loss, gradient };
}
