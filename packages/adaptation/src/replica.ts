import type { Genotype } from '@ntaa/contracts';
import { Gradients, tf, type Param } from '@ntaa/engine';
import type { NamedTensors, Supernet } from '@ntaa/supernet';
import type { Task } from '@ntaa/tasks';
import type { TrainingBatches } from './target-data.js';
import { createOptimizer, sandwichGradients, trainable } from './train.js';

export interface Hyperparameters {
  weightDecay: number;
  /** Learning rate of the classifier relative to the backbone. */
  headRate: number;
}

/** A network in training as one thread has it: weights, momentum, batches and the sums of its gradients. Does not own the network. */
export class Replica {
  readonly params: readonly Param[];
  readonly batches: TrainingBatches;
  readonly gradients: Gradients;
  readonly #net: Supernet;
  readonly #task: Task;
  readonly #optimizer = createOptimizer();

  constructor(net: Supernet, task: Task, batches: TrainingBatches, hyperparameters: Hyperparameters) {
    this.#net = net;
    this.#task = task;
    this.batches = batches;
    this.params = trainable(net, hyperparameters);
    this.gradients = new Gradients(this.params);
  }

  /** Mean gradients over the images at places `from` to `to` of a step's batch, in `gradients`. Returns their mean loss. */
  backward(step: number, genotypes: readonly Genotype[], from: number, to: number): number {
    this.gradients.clear();
    const images = new Map<number, tf.Tensor4D>();
    let labels = new Int32Array();
    for (const { resolution } of genotypes) {
      if (images.has(resolution)) continue;
      const batch = this.batches.batch(step, resolution, from, to);
      images.set(resolution, batch.images);
      labels = batch.labels as Int32Array<ArrayBuffer>;
    }
    const { outputs } = this.#net;
    const targets = tf.tensor2d(this.#task.targets(labels, outputs), [labels.length, outputs]);
    const batch = { images: (resolution: number) => images.get(resolution)!, targets };
    const loss = sandwichGradients(this.#net, genotypes, batch, this.gradients);
    tf.dispose([targets, ...images.values()]);
    return loss;
  }

  /** Applies what is in `gradients`. */
  update(rate: number): void {
    this.#optimizer.step(this.params, this.gradients, rate);
  }

  momentum(): NamedTensors {
    return new Map(
      Object.entries(this.#optimizer.state()).map(([name, data]) => [name, { shape: [data.length], data }]),
    );
  }

  loadMomentum(momentum: NamedTensors): void {
    this.#optimizer.load(Object.fromEntries([...momentum].map(([name, { data }]) => [name, data])));
  }

  dispose(): void {
    this.#optimizer.dispose();
    this.gradients.dispose();
  }
}
