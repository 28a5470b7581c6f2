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

/** Colour images [N,H,W,3] from their bytes: tables[256 * channel + byte]. Throws RangeError for other numbers of bytes. */
export function lookUp(
  bytes: Uint8Array,
  tables: Float32Array,
  shape: [number, number, number, 3],
): tf.Tensor4D {
  if (bytes.length !== tf.util.sizeFromShape(shape) || tables.length !== 768)
    throw new RangeError(`${bytes.length} bytes and ${tables.length} values are not images of ${shape}`);
  const heap = native();
  if (!heap)
    return tf.tensor4d(
      Float32Array.from(bytes, (byte, i) => tables[256 * (i % 3) + byte]!),
      shape,
    );
  const tensor = heap.output(shape);
  const [from = 0, by = 0] = heap.scratch(bytes.length, 4 * tables.length);
  heap.bytesAt(from, bytes.length).set(bytes);
  heap.floatsAt(by, tables.length).set(tables);
  heap.kernels.lookUp(from, by, heap.pointer(tensor), bytes.length / 3);
  return tf.engine().makeTensorFromTensorInfo(tensor) as tf.Tensor4D;
}
