import type { Genotype } from '@ntaa/contracts';
import { Sgd, tf, type Gradients, type Param } from '@ntaa/engine';
import { lossGradients, type BnStatistics, type Loss, type Objective, type Supernet } from '@ntaa/supernet';

/** Cosine decay with linear warm-up. `fraction`: how much of the training is over, 0..1. */
export function learningRate(peak: number, fraction: number, warmup = 0.05): number {
  if (fraction < warmup) return (peak * (fraction + 0.1 * warmup)) / (1.1 * warmup);
  return peak * 0.5 * (1 + Math.cos((Math.PI * (fraction - warmup)) / (1 - warmup)));
}

export const createOptimizer = (): Sgd => new Sgd({ momentum: 0.9, nesterov: true, clipNorm: 5 });

/** Training hyperparameters of a network's parameters: no decay on BN and biases, a faster head while it is new. */
export function trainable(net: Supernet, options: { weightDecay: number; headRate: number }): Param[] {
  return net.params().map((param) => ({
    ...param,
    weightDecay: param.weightDecay * options.weightDecay,
    lrScale: param.lrScale * (param.name.startsWith('classifier.') ? options.headRate : 1),
  }));
}

export interface StepInput {
  /** Images at a resolution: the same batch under the same random view. Disposed of by whoever made them. */
  images(resolution: number): tf.Tensor4D;
  /** Of the first genotype; stays the caller's. */
  objective: Objective;
  /** Of the others, given the logits of the first; default: cross-entropy from their softmax. */
  distil?: ((teacher: Float32Array) => Loss) | undefined;
  /** See `lossGradients`; of a single genotype. */
  bn?: BnStatistics | undefined;
}

/**
 * Gradients of a step by the sandwich rule with in-place distillation (BigNAS): the first genotype learns from the
 * task's objective, the others from its detached predictions, and `into` receives the sum. With a single genotype: an ordinary
 * training step. Returns the loss of the first genotype.
 */
export function sandwichGradients(
  net: Supernet,
  genotypes: readonly Genotype[],
  batch: StepInput,
  into: Gradients,
): number {
  const [teacher, ...students] = genotypes;
  const { resolution } = teacher!;
  const { bn } = batch;
  const first = lossGradients(net, teacher!, batch.images(resolution), batch.objective, into, { bn });
  if (students.length > 0) {
    const soft = batch.distil ? batch.distil(first.logits.dataSync<'float32'>()) : tf.softmax(first.logits);
    for (const student of students)
      lossGradients(net, student, batch.images(student.resolution), soft, into, {
        told: false,
      }).logits.dispose();
    if (typeof soft !== 'function') soft.dispose();
  }
  first.logits.dispose();
  return first.loss;
}
