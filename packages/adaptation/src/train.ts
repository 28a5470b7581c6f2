import type { Genotype } from '@ntaa/contracts';
import { Sgd, softmaxCrossEntropy, tf, type Param } from '@ntaa/engine';
import type { Supernet } from '@ntaa/supernet';

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

type Gradients = Record<string, tf.Tensor>;

/** Gradients of the mean cross-entropy of one architecture against soft targets [n, outputs], its loss and its logits. */
function gradients(
  net: Supernet,
  genotype: Genotype,
  images: tf.Tensor4D,
  targets: tf.Tensor2D,
): { grads: Gradients; loss: number; logits: tf.Tensor2D } {
  let logits: tf.Tensor2D | undefined;
  const { value, grads } = tf.variableGrads(() => {
    const out = net.forward(images, genotype, 'batch').logits;
    logits = tf.keep(out.clone());
    return softmaxCrossEntropy(out, targets);
  });
  const loss = value.dataSync()[0]!;
  value.dispose();
  return { grads, loss, logits: logits! };
}

function accumulate(into: Gradients, grads: Gradients): void {
  for (const [name, grad] of Object.entries(grads)) {
    const sum = into[name];
    if (!sum) {
      into[name] = grad;
      continue;
    }
    into[name] = tf.add(sum, grad);
    sum.dispose();
    grad.dispose();
  }
}

/** TensorFlow.js names gradients after its variables, the optimizer and checkpoints after parameters. */
function byParamName(grads: Gradients, params: readonly Param[]): Gradients {
  const named: Gradients = {};
  for (const { name, variable } of params) {
    const grad = grads[variable.name];
    if (grad) named[name] = grad;
  }
  return named;
}

export interface StepInput {
  /** Images at a resolution: the same batch under the same random view. The step disposes nothing. */
  images(resolution: number): tf.Tensor4D;
  targets: tf.Tensor2D;
}

/**
 * Sandwich rule with in-place distillation (BigNAS): the first genotype learns from the labels, the others from its
 * detached predictions; gradients are summed and applied once. With a single genotype: an ordinary training step.
 * Returns the loss of the first genotype.
 */
export function sandwichStep(
  net: Supernet,
  genotypes: readonly Genotype[],
  batch: StepInput,
  optimizer: Sgd,
  params: readonly Param[],
  rate: number,
): number {
  const total: Gradients = {};
  const [teacher, ...students] = genotypes;
  const first = gradients(net, teacher!, batch.images(teacher!.resolution), batch.targets);
  accumulate(total, first.grads);
  if (students.length > 0) {
    const soft = tf.softmax(first.logits);
    for (const student of students) {
      const { grads, logits } = gradients(net, student, batch.images(student.resolution), soft);
      logits.dispose();
      accumulate(total, grads);
    }
    soft.dispose();
  }
  first.logits.dispose();
  optimizer.step(params, byParamName(total, params), rate);
  for (const grad of Object.values(total)) grad.dispose();
  return first.loss;
}
