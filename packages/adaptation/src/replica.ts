import type { Genotype } from '@ntaa/contracts';
import type { Mixed } from '@ntaa/data';
import { Gradients, tf, type Param } from '@ntaa/engine';
import { BnStatistics, type NamedTensors, type Supernet } from '@ntaa/supernet';
import type { Task } from '@ntaa/tasks';
import type { BatchPart, TrainingBatches } from './target-data.js';
import { createOptimizer, sandwichGradients, trainable } from './train.js';

export interface Hyperparameters {
  weightDecay: number;
  /** Learning rate of the classifier relative to the backbone. */
  headRate: number;
  /** Steps of the whole schedule, for losses that change over it; without, they are as at its end. */
  steps?: number;
}

/** A network in training as one thread has it: weights, momentum, batches and the sums of its gradients. Does not own the network. */
export class Replica {
  readonly params: readonly Param[];
  readonly batches: TrainingBatches;
  readonly gradients: Gradients;
  readonly #net: Supernet;
  readonly #task: Task;
  readonly #optimizer = createOptimizer();
  readonly #steps: number | undefined;
  #bn: BnStatistics | undefined;

  constructor(net: Supernet, task: Task, batches: TrainingBatches, hyperparameters: Hyperparameters) {
    this.#net = net;
    this.#task = task;
    this.batches = batches;
    this.#steps = hyperparameters.steps;
    this.params = trainable(net, hyperparameters);
    this.gradients = new Gradients(this.params);
  }

  /**
   * Mean gradients over the images at places `from` to `to` of a step's batch, in `gradients`. Returns their mean loss.
   * `mixing`: probability that they are mixed with each other, where the task's labels can be.
   */
  backward(step: number, genotypes: readonly Genotype[], from: number, to: number, mixing = 0): number {
    this.gradients.clear();
    const parts = new Map<number, BatchPart[]>();
    for (const { resolution } of genotypes)
      if (!parts.has(resolution))
        parts.set(resolution, this.batches.batch(step, resolution, from, to, this.#task.mixes ? mixing : 0));
    const [any = []] = parts.values();
    let loss = 0;
    any.forEach(({ labels, mixed, unlabelled }, p) => {
      const { outputs } = this.#net;
      const progress = this.#steps === undefined ? 1 : Math.min(1, step / this.#steps);
      const { classWeights } = this.batches.targets;
      const truth = { labels, outputs, classWeights, unlabelled, progress };
      const made = this.#task.objective(truth);
      if (mixed && typeof made !== 'function') mixTargets(made, mixed, labels.length);
      const objective = typeof made === 'function' ? made : tf.tensor2d(made, [labels.length, outputs]);
      const { distil } = this.#task;
      const batch = {
        images: (resolution: number) => parts.get(resolution)![p]!.images,
        objective,
        distil: distil && ((teacher: Float32Array) => distil(teacher, truth)),
        bn: this.#bn,
      };
      loss += sandwichGradients(this.#net, genotypes, batch, this.gradients);
      if (typeof objective !== 'function') objective.dispose();
    });
    tf.dispose([...parts.values()].flatMap((all) => all.map(({ images }) => images)));
    return loss;
  }

  /** From now on batch norms have these statistics, whatever the batch. */
  settle(statistics: NamedTensors): void {
    this.#bn = BnStatistics.load(statistics);
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
    this.#bn?.dispose();
  }
}

/** Soft targets [n * outputs] of mixed images, in place. */
function mixTargets(targets: Float32Array, { share, partner }: Mixed, n: number): void {
  const own = targets.slice();
  const outputs = targets.length / n;
  for (let i = 0; i < n; i++)
    for (let k = 0, other = partner(i) * outputs; k < outputs; k++)
      targets[i * outputs + k] = share * own[i * outputs + k]! + (1 - share) * own[other + k]!;
}
