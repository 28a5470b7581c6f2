/** Forward and backward of one architecture on one batch. */
import type { Genotype } from '@ntaa/contracts';
import { native, softmaxCrossEntropy, tf, type Gradients } from '@ntaa/engine';
import type { BnStatistics } from './batch-norm.js';
import { lossGradientsOnHeap } from './program.js';
import type { Supernet } from './supernet.js';

/** What a network made of a batch of n images, row-major copies. */
export interface BatchOutputs {
  n: number;
  /** [n, outputs]. */
  logits: Float32Array;
  /** Pooled features [n, head width], before the neck where there is one. */
  features: Float32Array;
}

/** A loss of a batch and its gradients in the outputs; without `features` it depends on the logits alone. */
export interface LossOfOutputs {
  loss: number;
  logits: Float32Array;
  features?: Float32Array;
}
export type Loss = (outputs: BatchOutputs) => LossOfOutputs;

/** What a batch is trained on: soft targets [N, outputs] of the mean softmax cross-entropy, or any other loss. */
export type Objective = tf.Tensor2D | Loss;

export interface PassOptions {
  /** Fixed statistics of the batch norms, in place of the batch's own; no gradient goes through them. Stay the caller's. */
  bn?: BnStatistics | undefined;
  /** False: nobody wants to know the loss, which may be NaN. A GPU then is not waited for. */
  told?: boolean;
}

/**
 * Adds to `into` the gradients of the objective of one architecture. Images [N,R,R,3], normalised; they and targets stay
 * the caller's. The logits are the caller's to dispose of.
 */
export function lossGradients(
  net: Supernet,
  genotype: Genotype,
  images: tf.Tensor4D,
  objective: Objective,
  into: Gradients,
  options: PassOptions = {},
): { loss: number; logits: tf.Tensor2D } {
  const heap = native();
  if (heap) return lossGradientsOnHeap(heap, net, genotype, [images, objective], into, options.bn);
  return lossGradientsTaped(net, genotype, images, objective, into, options);
}

/** The same in TensorFlow.js ops and its automatic differentiation, for any engine. */
export function lossGradientsTaped(
  net: Supernet,
  genotype: Genotype,
  images: tf.Tensor4D,
  objective: Objective,
  into: Gradients,
  options: PassOptions = {},
): { loss: number; logits: tf.Tensor2D } {
  const { bn = 'batch', told = true } = options;
  let logits: tf.Tensor2D | undefined;
  let measured: number | undefined;
  const params = net.params();
  const { value, grads } = tf.variableGrads(
    () => {
      const out = net.forwardTaped(images, genotype, bn);
      logits = tf.keep(out.logits.clone());
      if (typeof objective !== 'function') return softmaxCrossEntropy(out.logits, objective);
      const judged = objective({
        n: images.shape[0],
        logits: Float32Array.from(out.logits.dataSync()),
        features: Float32Array.from(out.pooled.dataSync()),
      });
      measured = judged.loss;
      // A function with the loss's gradients at this very point.
      const along = (outputs: tf.Tensor2D, gradient: Float32Array) =>
        tf.sum(tf.mul(outputs, tf.tensor2d(gradient, outputs.shape)));
      const first = along(out.logits, judged.logits);
      return (judged.features ? tf.add(first, along(out.pooled, judged.features)) : first) as tf.Scalar;
    },
    params.map(({ variable }) => variable),
  );
  const loss = measured ?? (told ? value.dataSync()[0]! : NaN);
  value.dispose();
  for (const { name, variable } of params) {
    const gradient = grads[variable.name];
    if (!gradient) continue;
    into.add(name, gradient);
    gradient.dispose();
  }
  return { loss, logits: logits! };
}
