/** The engine's own operations as TensorFlow.js kernels with gradients; registered while our kernels are installed. */
import * as tf from '@tensorflow/tfjs-core';
import type { Heap } from './heap.js';
import {
  ACTIVATIONS,
  collectMoments,
  crossEntropy,
  finishMoments,
  normAreas,
  normBytes,
  setScale,
} from './layers.js';
import { native } from './native.js';
import type { Activation } from './ops.js';

interface NormAttrs {
  epsilon: number;
  activation: Activation;
}

function heapOrThrow(): Heap {
  const heap = native();
  if (!heap) throw new Error('the fused kernels are not installed');
  return heap;
}

function batchNorm(inputs: tf.NamedTensorInfoMap, { epsilon, activation }: NormAttrs): tf.TensorInfo[] {
  const heap = heapOrThrow();
  const { x, gamma, beta } = inputs as Record<'x' | 'gamma' | 'beta', tf.TensorInfo>;
  const C = gamma.shape[0]!;
  const M = tf.util.sizeFromShape(x.shape) / C;
  const [y, mean, variance] = [heap.output(x.shape), heap.output([C]), heap.output([C])];
  const areas = normAreas(heap.scratch(normBytes(C))[0]!, C, activation);
  collectMoments(heap, areas, C)(0, M, heap.pointer(x));
  const of = { ...areas, mean: heap.pointer(mean), variance: heap.pointer(variance) };
  finishMoments(heap, of, M, C);
  setScale(heap, of, { gamma: heap.pointer(gamma), beta: heap.pointer(beta), epsilon, C });
  heap.kernels.affine(heap.pointer(x), heap.pointer(y), M, C, areas.scale, areas.shift, areas.activation);
  return [y, mean, variance];
}

function batchNormGrad(inputs: tf.NamedTensorInfoMap, { epsilon, activation }: NormAttrs): tf.TensorInfo[] {
  const heap = heapOrThrow();
  const given = inputs as Record<'x' | 'dy' | 'gamma' | 'beta' | 'mean' | 'variance', tf.TensorInfo>;
  const at = (key: keyof typeof given) => heap.pointer(given[key]);
  const C = given.gamma.shape[0]!;
  const M = tf.util.sizeFromShape(given.x.shape) / C;
  const [dx, dgamma, dbeta] = [heap.output(given.x.shape), heap.output([C]), heap.output([C])];
  for (const sum of [dgamma, dbeta]) heap.floats(sum).fill(0);
  const {
    totals,
    scale,
    shift,
    slope,
    offset,
    activation: act,
  } = normAreas(...([heap.scratch(normBytes(C))[0]!, C, activation] as const));
  const of = { mean: at('mean'), variance: at('variance'), scale, shift };
  setScale(heap, of, { gamma: at('gamma'), beta: at('beta'), epsilon, C });
  const { kernels } = heap;
  heap.zero(totals, 16 * C);
  kernels.affineGradSums(at('x'), at('dy'), 0, M, C, scale, shift, of.mean, totals, act);
  kernels.normGrad(
    ...[totals, M, C, at('gamma'), of.mean, of.variance, epsilon],
    ...[heap.pointer(dgamma), heap.pointer(dbeta), slope, offset],
  );
  kernels.affineGrad(at('x'), at('dy'), heap.pointer(dx), M, C, scale, shift, slope, offset, act);
  return [dx, dgamma, dbeta];
}

function affine(inputs: tf.NamedTensorInfoMap, { activation }: NormAttrs): tf.TensorInfo {
  const heap = heapOrThrow();
  const { x, scale, shift } = inputs as Record<'x' | 'scale' | 'shift', tf.TensorInfo>;
  const C = scale.shape[0]!;
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
  const C = scale.shape[0]!;
  const M = tf.util.sizeFromShape(x.shape) / C;
  const [dx, dscale, dshift] = [heap.output(x.shape), heap.output([C]), heap.output([C])];
  const [totals = 0, zeros = 0] = heap.scratch(C * 16 + 16, C * 4);
  heap.zero(zeros, C * 4);
  heap.zero(totals, C * 16);
  const act = ACTIVATIONS[activation];
  const [px, pdy, pdx, ps, pt] = [x, dy, dx, scale, shift].map((t) => heap.pointer(t)) as [
    ...[number, number, number, number, number],
  ];
  heap.kernels.affineGradSums(px, pdy, 0, M, C, ps, pt, zeros, totals, act);
  const sums = heap.doublesAt(totals, 2 * C);
  const [scales, shifts] = [heap.floats(dscale), heap.floats(dshift)];
  for (let c = 0; c < C; c++) [shifts[c], scales[c]] = [sums[2 * c]!, sums[2 * c + 1]!];
  heap.kernels.affineGrad(px, pdy, pdx, M, C, ps, pt, zeros, zeros, act);
  return [dx, dscale, dshift];
}

/** [loss, gradient]: the gradient costs nothing more while the softmax is at hand. */
function softmaxCrossEntropy(inputs: tf.NamedTensorInfoMap): tf.TensorInfo[] {
  const heap = heapOrThrow();
  const { logits, targets } = inputs as Record<'logits' | 'targets', tf.TensorInfo>;
  const [N, K] = logits.shape as [number, number];
  const [loss, gradient] = [heap.output([]), heap.output([N, K])];
  heap.floats(loss)[0] = crossEntropy(
    heap,
    { logits: heap.pointer(logits), targets: heap.pointer(targets), gradient: heap.pointer(gradient) },
    ...([N, K] as const),
  );
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
