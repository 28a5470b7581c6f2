/** Forward and backward of one architecture on one batch. */
import type { Genotype } from '@ntaa/contracts';
import { native, softmaxCrossEntropy, tf, type Gradients } from '@ntaa/engine';
import { lossGradientsOnHeap } from './program.js';
import type { Supernet } from './supernet.js';

/**
 * Adds to `into` the gradients of the mean cross entropy of one architecture, with batch statistics, against soft
 * targets [N, outputs]. Images [N,R,R,3], normalised; both stay the caller's. The logits are the caller's to dispose of.
 * A loss that nobody wants to know (`told` false) may be NaN: a GPU then is not waited for.
 */
export function lossGradients(
  net: Supernet,
  genotype: Genotype,
  images: tf.Tensor4D,
  targets: tf.Tensor2D,
  into: Gradients,
  told = true,
): { loss: number; logits: tf.Tensor2D } {
  const heap = native();
  if (heap) return lossGradientsOnHeap(heap, net, genotype, [images, targets], into);
  return lossGradientsTaped(net, genotype, images, targets, into, told);
}

/** The same in TensorFlow.js ops and its automatic differentiation, for any engine. */
export function lossGradientsTaped(
  net: Supernet,
  genotype: Genotype,
  images: tf.Tensor4D,
  targets: tf.Tensor2D,
  into: Gradients,
  told = true,
): { loss: number; logits: tf.Tensor2D } {
  let logits: tf.Tensor2D | undefined;
  const params = net.params();
  const { value, grads } = tf.variableGrads(
    () => {
      const out = net.forwardTaped(images, genotype, 'batch').logits;
      logits = tf.keep(out.clone());
      return softmaxCrossEntropy(out, targets);
    },
    params.map(({ variable }) => variable),
  );
  const loss = told ? value.dataSync()[0]! : NaN;
  value.dispose();
  for (const { name, variable } of params) {
    const gradient = grads[variable.name];
    if (!gradient) continue;
    into.add(name, gradient);
    gradient.dispose();
  }
  return { loss, logits: logits! };
}
