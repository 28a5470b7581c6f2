/** The engine's own operations as TensorFlow.js kernels with gradients; registered while our kernels are installed. */
import * as tf from '@tensorflow/tfjs-core';
import type { Heap } from './heap.js';
import { native } from './native.js';
import type { Activation } from './ops.js';

const ACTIVATIONS: Record<Activation, number> = { linear: 0, relu: 1, hswish: 2 };

interface NormAttrs {
  epsilon: number;
  activation: Activation;
}

function heapOrThrow(): Heap {
  const heap = native();
  if (!heap) throw new Error('the fused kernels are not installed');
  return heap;
}

/** Writes per-channel values computed in double precision into scratch areas. */
function writeChannels(heap: Heap, at: number, count: number, value: (channel: number) => number): void {
  const values = heap.floatsAt(at, count);
  for (let c = 0; c < count; c++) values[c] = value(c);
}

const at = (values: ArrayLike<number>, index: number) => values[index] as number;

/** scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale. */
function normScale(
  heap: Heap,
  tensors: Record<'gamma' | 'beta' | 'mean' | 'variance', tf.TensorInfo>,
  epsilon: number,
) {
  const gamma = heap.floats(tensors.gamma);
  const beta = heap.floats(tensors.beta);
  const mean = heap.floats(tensors.mean);
  const variance = heap.floats(tensors.variance);
  const inverse = (c: number) => 1 / Math.sqrt(at(variance, c) + epsilon);
  const scale = (c: number) => at(gamma, c) * inverse(c);
  return {
    inverse,
    scale,
    shift: (c: number) => at(beta, c) - at(mean, c) * scale(c),
    mean: (c: number) => at(mean, c),
  };
}

function batchNorm(inputs: tf.NamedTensorInfoMap, { epsilon, activation }: NormAttrs): tf.TensorInfo[] {
  const heap = heapOrThrow();
  const { x, gamma, beta } = inputs as Record<'x' | 'gamma' | 'beta', tf.TensorInfo>;
  const C = at(gamma.shape, 0);
  const M = tf.util.sizeFromShape(x.shape) / C;
  const [y, mean, variance] = [heap.output(x.shape), heap.output([C]), heap.output([C])];
  const [totals = 0, scale = 0, shift = 0] = heap.scratch(C * 16 + 16, C * 4, C * 4);
  heap.kernels.moments(heap.pointer(x), M, C, heap.pointer(mean), heap.pointer(variance), totals);
  const norm = normScale(heap, { gamma, beta, mean, variance }, epsilon);
  writeChannels(heap, scale, C, norm.scale);
  writeChannels(heap, shift, C, norm.shift);
  heap.kernels.affine(heap.pointer(x), heap.pointer(y), M, C, scale, shift, ACTIVATIONS[activation]);
  return [y, mean, variance];
}

function batchNormGrad(inputs: tf.NamedTensorInfoMap, { epsilon, activation }: NormAttrs): tf.TensorInfo[] {
  const heap = heapOrThrow();
  const given = inputs as Record<'x' | 'dy' | 'gamma' | 'beta' | 'mean' | 'variance', tf.TensorInfo>;
  const { x, dy } = given;
  const C = at(given.gamma.shape, 0);
  const M = tf.util.sizeFromShape(x.shape) / C;
  const [dx, dgamma, dbeta] = [heap.output(x.shape), heap.output([C]), heap.output([C])];
  const areas = heap.scratch(C * 16 + 16, C * 4, C * 4, C * 4, C * 4);
  const [totals = 0, scale = 0, shift = 0, slope = 0, offset = 0] = areas;
  const norm = normScale(heap, given, epsilon);
  writeChannels(heap, scale, C, norm.scale);
  writeChannels(heap, shift, C, norm.shift);
  const act = ACTIVATIONS[activation];
  const { kernels } = heap;
  const [px, pdy] = [heap.pointer(x), heap.pointer(dy)];
  kernels.affineGradSums(px, pdy, M, C, scale, shift, heap.pointer(given.mean), totals, act);
  const sums = heap.doublesAt(totals, 2 * C);
  const gammaGrad = (c: number) => at(sums, 2 * c + 1) * norm.inverse(c);
  writeChannels(heap, heap.pointer(dgamma), C, gammaGrad);
  writeChannels(heap, heap.pointer(dbeta), C, (c) => at(sums, 2 * c));
  // dx = scale * (d - mean(d) - xhat * mean(d * xhat)), written as d * scale + x * slope + offset.
  const slopeOf = (c: number) => (-norm.scale(c) * norm.inverse(c) * gammaGrad(c)) / M;
  writeChannels(heap, slope, C, slopeOf);
  writeChannels(heap, offset, C, (c) => (-norm.scale(c) * at(sums, 2 * c)) / M - norm.mean(c) * slopeOf(c));
  kernels.affineGrad(px, pdy, heap.pointer(dx), M, C, scale, shift, slope, offset, act);
  return [dx, dgamma, dbeta];
}

function affine(inputs: tf.NamedTensorInfoMap, { activation }: NormAttrs): tf.TensorInfo {
  const heap = heapOrThrow();
  const { x, scale, shift } = inputs as Record<'x' | 'scale' | 'shift', tf.TensorInfo>;
  const C = at(scale.shape, 0);
  const y = heap.output(x.shape);
  const [px, py, ps, pt] = [x, y, scale, shift].map((t) => heap.pointer(t)) as [
    number,
    number,
    number,
    number,
  ];
  heap.kernels.affine(px, py, tf.util.sizeFromShape(x.shape) / C, C, ps, pt, ACTIVATIONS[activation]);
  return y;
}

function affineGrad(inputs: tf.NamedTensorInfoMap, { activation }: NormAttrs): tf.TensorInfo[] {
  const heap = heapOrThrow();
  const { x, dy, scale, shift } = inputs as Record<'x' | 'dy' | 'scale' | 'shift', tf.TensorInfo>;
  const C = at(scale.shape, 0);
  const M = tf.util.sizeFromShape(x.shape) / C;
  const [dx, dscale, dshift] = [heap.output(x.shape), heap.output([C]), heap.output([C])];
  const [totals = 0, zeros = 0] = heap.scratch(C * 16 + 16, C * 4);
  heap.zero(zeros, C * 4);
  const act = ACTIVATIONS[activation];
  const [px, pdy, pdx, ps, pt] = [x, dy, dx, scale, shift].map((t) => heap.pointer(t)) as [
    ...[number, number, number, number, number],
  ];
  heap.kernels.affineGradSums(px, pdy, M, C, ps, pt, zeros, totals, act);
  const sums = heap.doublesAt(totals, 2 * C);
  writeChannels(heap, heap.pointer(dscale), C, (c) => at(sums, 2 * c + 1));
  writeChannels(heap, heap.pointer(dshift), C, (c) => at(sums, 2 * c));
  heap.kernels.affineGrad(px, pdy, pdx, M, C, ps, pt, zeros, zeros, act);
  return [dx, dscale, dshift];
}

/** [loss, gradient]: the gradient costs nothing more while the softmax is at hand. */
function softmaxCrossEntropy(inputs: tf.NamedTensorInfoMap): tf.TensorInfo[] {
  const heap = heapOrThrow();
  const { logits, targets } = inputs as Record<'logits' | 'targets', tf.TensorInfo>;
  const [N, K] = logits.shape as [number, number];
  const [loss, gradient] = [heap.output([]), heap.output([N, K])];
  const [z, t, g] = [heap.floats(logits), heap.floats(targets), heap.floats(gradient)];
  let total = 0;
  for (let row = 0; row < N * K; row += K) {
    let top = -Infinity;
    for (let k = row; k < row + K; k++) top = Math.max(top, at(z, k));
    let [sum, mass] = [0, 0];
    for (let k = row; k < row + K; k++) {
      sum += Math.exp(at(z, k) - top);
      mass += at(t, k);
    }
    const logSum = top + Math.log(sum);
    for (let k = row; k < row + K; k++) {
      const logP = at(z, k) - logSum;
      if (at(t, k) !== 0) total -= at(t, k) * logP;
      g[k] = (Math.exp(logP) * mass - at(t, k)) / N;
    }
  }
  heap.floats(loss)[0] = total / N;
  return [loss, gradient];
}

type Grads = Record<string, () => tf.Tensor>;

const lazily = (names: string[], tensors: tf.Tensor[]): Grads =>
  Object.fromEntries(names.map((name, i) => [name, () => tensors[i] as tf.Tensor]));

function run(name: string, inputs: Record<string, tf.Tensor>, attrs: object): tf.Tensor[] {
  return tf.engine().runKernel(name, inputs, attrs as tf.NamedAttrMap);
}

/** Registers kernels and gradients; twice does no harm. */
export function registerFused(): void {
  if (tf.getKernel('NtaaBatchNorm', 'wasm')) return;
  type Run = (inputs: tf.NamedTensorInfoMap, attrs: NormAttrs) => tf.TensorInfo | tf.TensorInfo[];
  const kernels: Record<string, Run> = {
    NtaaBatchNorm: batchNorm,
    NtaaBatchNormGrad: batchNormGrad,
    NtaaAffine: affine,
    NtaaAffineGrad: affineGrad,
    NtaaSoftmaxCrossEntropy: softmaxCrossEntropy,
  };
  for (const [kernelName, body] of Object.entries(kernels))
    tf.registerKernel({
      kernelName,
      backendName: 'wasm',
      kernelFunc: ({ inputs, attrs }) => body(inputs, attrs as unknown as NormAttrs),
    });
  // Gradients are computed at once: TensorFlow.js runs the closure of each input in a scope of its own.
  tf.registerGradient({
    kernelName: 'NtaaBatchNorm',
    inputsToSave: ['x', 'gamma', 'beta'],
    outputsToSave: [false, true, true],
    gradFunc: (dys, saved, attrs) => {
      const [x, gamma, beta, mean, variance] = saved as [
        tf.Tensor,
        tf.Tensor,
        tf.Tensor,
        tf.Tensor,
        tf.Tensor,
      ];
      const dy = (dys as tf.Tensor[])[0] as tf.Tensor;
      const grads = run('NtaaBatchNormGrad', { x, dy, gamma, beta, mean, variance }, attrs);
      return lazily(['x', 'gamma', 'beta'], grads);
    },
  });
  tf.registerGradient({
    kernelName: 'NtaaAffine',
    inputsToSave: ['x', 'scale', 'shift'],
    gradFunc: (dy, saved, attrs) => {
      const [x, scale, shift] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
      return lazily(
        ['x', 'scale', 'shift'],
        run('NtaaAffineGrad', { x, dy: dy as tf.Tensor, scale, shift }, attrs),
      );
    },
  });
  tf.registerGradient({
    kernelName: 'NtaaSoftmaxCrossEntropy',
    outputsToSave: [false, true],
    gradFunc: (dys, saved) => ({
      logits: () => tf.mul((dys as tf.Tensor[])[0] as tf.Tensor, saved[0] as tf.Tensor),
    }),
  });
}
