/**
 * The fused operations a network needs beside plain tf ops: one kernel on the embedded engine, TensorFlow's own batch
 * norm on the native ones, composed from stock ops otherwise.
 */
import * as tf from '@tensorflow/tfjs-core';
import * as composed from './composed.js';
import { native } from './native.js';
import * as tensorflow from './tensorflow-kernels.js';

export type Activation = 'linear' | 'relu' | 'hswish';

/**
 * Training batch norm over N, H, W with the batch's own statistics, then the activation; differentiable in x
 * [N,H,W,C], gamma [C] and beta [C]. `mean` and `variance` (biased, [C]) are not differentiable; the caller
 * disposes of them, as of y.
 */
export function batchNorm(
  x: tf.Tensor4D,
  gamma: tf.Tensor1D,
  beta: tf.Tensor1D,
  opts: { epsilon: number; activation: Activation },
): { y: tf.Tensor4D; mean: tf.Tensor1D; variance: tf.Tensor1D } {
  if (native()) {
    const [y, mean, variance] = runFused('NtaaBatchNorm', { x, gamma, beta }, opts);
    return { y: y as tf.Tensor4D, mean: mean as tf.Tensor1D, variance: variance as tf.Tensor1D };
  }
  if (tf.getBackend() === 'tensorflow') return tensorflow.batchNorm(x, gamma, beta, opts);
  return composed.batchNorm(x, gamma, beta, opts);
}

/** y = activation(x * scale + shift) with scale and shift [C]: batch norm at inference. Differentiable. */
export function affine(
  x: tf.Tensor4D,
  scale: tf.Tensor1D,
  shift: tf.Tensor1D,
  activation: Activation,
): tf.Tensor4D {
  if (native()) return runFused('NtaaAffine', { x, scale, shift }, { activation }) as unknown as tf.Tensor4D;
  return composed.affine(x, scale, shift, activation);
}

/** Mean over N of the cross entropy of softmax(logits) [N,K] against soft targets [N,K]; differentiable in logits. */
export function softmaxCrossEntropy(logits: tf.Tensor2D, targets: tf.Tensor2D): tf.Scalar {
  if (native()) {
    const [loss, gradient] = runFused('NtaaSoftmaxCrossEntropy', { logits, targets }, {});
    gradient?.dispose();
    return loss as tf.Scalar;
  }
  return composed.softmaxCrossEntropy(logits, targets);
}

function runFused(name: string, inputs: Record<string, tf.Tensor>, attrs: object): tf.Tensor[] {
  return tf.engine().runKernel(name, inputs, attrs as tf.NamedAttrMap);
}

/** A new tensor whose values `fill` writes, on our own engine in their place. The view is gone after that. */
export function filled<R extends tf.Rank>(
  shape: tf.ShapeMap[R],
  fill: (values: Float32Array) => void,
): tf.Tensor<R> {
  const heap = native();
  if (heap) {
    const tensor = heap.output(shape);
    fill(heap.floats(tensor));
    return tf.engine().makeTensorFromTensorInfo(tensor) as tf.Tensor<R>;
  }
  const values = new Float32Array(tf.util.sizeFromShape(shape));
  fill(values);
  return tf.tensor(values, shape);
}
