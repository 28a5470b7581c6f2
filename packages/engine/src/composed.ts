/**
 * The engine's operations composed from stock TensorFlow.js ops: what runs on native backends, and on the embedded
 * one when its kernels cannot be used. Slow on tfjs-backend-wasm, exact everywhere.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Activation } from './ops.js';

function activate<T extends tf.Tensor>(x: T, activation: Activation): T {
  if (activation === 'relu') return tf.relu(x);
  if (activation === 'hswish') return tf.mul(x, tf.div(tf.relu6(tf.add(x, 3)), 6));
  return x;
}

export function batchNorm(
  x: tf.Tensor4D,
  gamma: tf.Tensor1D,
  beta: tf.Tensor1D,
  opts: { epsilon: number; activation: Activation },
): { y: tf.Tensor4D; mean: tf.Tensor1D; variance: tf.Tensor1D } {
  const [y, mean, variance] = tf.tidy(() => {
    const count = x.size / gamma.size;
    const flat = tf.reshape(x, [count, gamma.size]);
    const mean = tf.mean<tf.Tensor1D>(flat, 0);
    const centred = tf.sub(flat, mean);
    const variance = tf.mean<tf.Tensor1D>(tf.square(centred), 0);
    const scale = tf.mul(gamma, tf.rsqrt(tf.add(variance, opts.epsilon)));
    const z = tf.add(tf.mul(centred, scale), beta);
    return [tf.reshape(activate(z, opts.activation), x.shape), mean, variance];
  }) as [tf.Tensor4D, tf.Tensor1D, tf.Tensor1D];
  return { y, mean, variance };
}

export function affine(
  x: tf.Tensor4D,
  scale: tf.Tensor1D,
  shift: tf.Tensor1D,
  activation: Activation,
): tf.Tensor4D {
  return tf.tidy(() => activate(tf.add(tf.mul(x, scale), shift), activation));
}

export function softmaxCrossEntropy(logits: tf.Tensor2D, targets: tf.Tensor2D): tf.Scalar {
  return tf.tidy(() => tf.neg(tf.div(tf.sum(tf.mul(targets, tf.logSoftmax(logits))), logits.shape[0])));
}
