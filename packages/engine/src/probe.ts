/**
 * Compares the engine's operations with their float64 references through the public TensorFlow.js API, on shapes
 * given by the caller: small odd ones at start-up, many in the tests.
 */
import * as tf from '@tensorflow/tfjs-core';
import { affine, batchNorm, softmaxCrossEntropy, type Activation } from './ops.js';
import * as reference from './reference.js';
import { Rng } from '@ntaa/random';

/** Largest difference of each result from its reference, relative to the reference's largest value (at least `floor`). */
export type Errors = Record<string, number>;

export interface ConvCase {
  batch: number;
  height: number;
  width: number;
  inChannels: number;
  outChannels: number;
  kernel: number;
  stride: number;
  pad: number | 'same' | 'valid';
  depthwise: boolean;
}

export function random(rng: Rng, count: number, offset = 0): Float32Array {
  return Float32Array.from({ length: count }, () => rng.normal() + offset);
}

/** Reads a tensor back and compares it. */
function error(actual: tf.Tensor, expected: ArrayLike<number>, floor = 1e-3): number {
  const values = actual.dataSync();
  if (values.length !== expected.length) return Infinity;
  let [worst, scale] = [0, floor];
  for (let i = 0; i < values.length; i++) {
    const difference = Math.abs((values[i] as number) - (expected[i] as number));
    if (!(difference <= worst)) worst = Number.isNaN(difference) ? Infinity : difference;
    scale = Math.max(scale, Math.abs(expected[i] as number));
  }
  return worst / scale;
}

export function convErrors(c: ConvCase, rng: Rng): Errors {
  return tf.tidy(() => {
    const xShape: [number, number, number, number] = [c.batch, c.height, c.width, c.inChannels];
    const out = c.depthwise ? c.inChannels : c.outChannels;
    const wShape: [number, number, number, number] = [
      c.kernel,
      c.kernel,
      c.inChannels,
      c.depthwise ? 1 : out,
    ];
    const [xs, ws] = [xShape, wShape].map((s) => random(rng, tf.util.sizeFromShape(s))) as [
      Float32Array,
      Float32Array,
    ];
    const [x, w] = [tf.tensor4d(xs, xShape), tf.tensor4d(ws, wShape)];
    const f = c.depthwise ? tf.depthwiseConv2d : tf.conv2d;
    const rounding = typeof c.pad === 'number' ? 'floor' : undefined;
    const run = (x: tf.Tensor4D, w: tf.Tensor4D) => f(x, w, c.stride, c.pad, 'NHWC', 1, rounding);
    const y = run(x, w);
    const dys = random(rng, y.size);
    const [dx, dw] = tf.grads((x, w) => run(x as tf.Tensor4D, w as tf.Tensor4D))(
      [x, w],
      tf.tensor(dys, y.shape),
    );
    const info = tf.backend_util.computeConv2DInfo(xShape, wShape, c.stride, 1, c.pad, rounding, c.depthwise);
    const expected = reference.convolution(
      {
        ...{ ...c, outChannels: out, top: info.padInfo.top, left: info.padInfo.left },
        ...{ outHeight: info.outHeight, outWidth: info.outWidth },
      },
      ...([xs, ws, dys] as const),
    );
    return {
      y: error(y, expected.y),
      dx: error(dx as tf.Tensor, expected.dx),
      dfilter: error(dw as tf.Tensor, expected.dfilter),
    };
  });
}

export function batchNormErrors(shape: [number, number, number, number], kind: Activation, rng: Rng): Errors {
  return tf.tidy(() => {
    const C = shape[3];
    const xs = random(rng, tf.util.sizeFromShape(shape), 0.7);
    const [gammas, betas] = [random(rng, C, 1), random(rng, C)];
    const [x, gamma, beta] = [tf.tensor4d(xs, shape), tf.tensor1d(gammas), tf.tensor1d(betas)];
    const opts = { epsilon: 1e-5, activation: kind };
    const dys = random(rng, xs.length);
    const { y, mean, variance } = batchNorm(x, gamma, beta, opts);
    const [dx, dgamma, dbeta] = tf.grads(
      (x, g, b) => batchNorm(x as tf.Tensor4D, g as tf.Tensor1D, b as tf.Tensor1D, opts).y,
    )([x, gamma, beta], tf.tensor4d(dys, shape)) as [tf.Tensor, tf.Tensor, tf.Tensor];
    const expected = reference.batchNorm(xs, gammas, betas, opts, dys);
    return {
      ...{
        y: error(y, expected.y),
        mean: error(mean, expected.mean),
        variance: error(variance, expected.variance),
      },
      ...{
        dx: error(dx, expected.dx),
        dgamma: error(dgamma, expected.dgamma, 1),
        dbeta: error(dbeta, expected.dbeta, 1),
      },
    };
  });
}

export function affineErrors(shape: [number, number, number, number], kind: Activation, rng: Rng): Errors {
  return tf.tidy(() => {
    const C = shape[3];
    const xs = random(rng, tf.util.sizeFromShape(shape));
    const [scales, shifts] = [random(rng, C, 1), random(rng, C)];
    const [x, scale, shift] = [tf.tensor4d(xs, shape), tf.tensor1d(scales), tf.tensor1d(shifts)];
    const dys = random(rng, xs.length);
    const [dx, dscale, dshift] = tf.grads((x, s, t) =>
      affine(x as tf.Tensor4D, s as tf.Tensor1D, t as tf.Tensor1D, kind),
    )([x, scale, shift], tf.tensor4d(dys, shape)) as [tf.Tensor, tf.Tensor, tf.Tensor];
    const expected = reference.affine(xs, scales, shifts, kind, dys);
    return {
      y: error(affine(x, scale, shift, kind), expected.y),
      ...{
        dx: error(dx, expected.dx),
        dscale: error(dscale, expected.dscale),
        dshift: error(dshift, expected.dshift),
      },
    };
  });
}

export function matMulErrors([M, K, N]: [number, number, number], rng: Rng): Errors {
  return tf.tidy(() => {
    const [a, b] = [random(rng, M * K), random(rng, K * N)];
    const errors: Errors = {};
    for (const [ta, tb] of [
      [false, false],
      [true, false],
      [false, true],
    ] as const) {
      const y = tf.matMul(tf.tensor2d(a, ta ? [K, M] : [M, K]), tf.tensor2d(b, tb ? [N, K] : [K, N]), ta, tb);
      errors[`matMul${ta ? 'T' : 'N'}${tb ? 'T' : 'N'}`] = error(
        y,
        reference.matMul(a, b, [M, K, N], ta, tb),
      );
    }
    return errors;
  });
}

export function lossErrors([N, K]: [number, number], rng: Rng): Errors {
  return tf.tidy(() => {
    const logits = random(rng, N * K);
    const targets = Float32Array.from({ length: N * K }, () => rng.uniform());
    const z = tf.tensor2d(logits, [N, K]);
    const f = (z: tf.Tensor) => softmaxCrossEntropy(z as tf.Tensor2D, tf.tensor2d(targets, [N, K]));
    const expected = reference.softmaxCrossEntropy(logits, targets, K);
    return { loss: error(f(z), [expected.loss]), dlogits: error(tf.grad(f)(z), expected.gradient) };
  });
}

export function poolErrors(shape: [number, number, number, number], rng: Rng): Errors {
  return tf.tidy(() => {
    const [N, H, W, C] = shape;
    const xs = random(rng, N * H * W * C);
    const y = new Float64Array(N * C);
    xs.forEach((v, i) => {
      const at = Math.floor(i / (H * W * C)) * C + (i % C);
      y[at] = (y[at] as number) + v / (H * W);
    });
    return { mean: error(tf.mean(tf.tensor4d(xs, shape), [1, 2]), y) };
  });
}

/** Float32 results may differ from float64 ones by this much on the probe's small cases. */
const TOLERANCE = 1e-4;

/** Every kernel on small odd shapes; returns what is wrong, or undefined. Takes a few milliseconds. */
export function probe(): string | undefined {
  const rng = new Rng('probe');
  const size = { batch: 2, height: 7, width: 9, inChannels: 5, outChannels: 11 };
  const checks: Record<string, () => Errors> = {
    pointwise: () => convErrors({ ...size, kernel: 1, stride: 1, pad: 0, depthwise: false }, rng),
    convolution: () => convErrors({ ...size, kernel: 3, stride: 2, pad: 1, depthwise: false }, rng),
    depthwise3: () =>
      convErrors({ ...size, inChannels: 21, kernel: 3, stride: 1, pad: 1, depthwise: true }, rng),
    depthwise5: () => convErrors({ ...size, kernel: 5, stride: 2, pad: 2, depthwise: true }, rng),
    batchNorm: () => batchNormErrors([2, 3, 5, 6], 'relu', rng),
    affine: () => affineErrors([2, 3, 5, 6], 'hswish', rng),
    matMul: () => matMulErrors([5, 7, 11], rng),
    loss: () => lossErrors([5, 7], rng),
    pool: () => poolErrors([2, 3, 5, 6], rng),
  };
  for (const [name, check] of Object.entries(checks))
    for (const [result, worst] of Object.entries(check()))
      if (!(worst <= TOLERANCE)) return `${name}: ${result} is off by ${worst.toExponential(1)}`;
  return undefined;
}
