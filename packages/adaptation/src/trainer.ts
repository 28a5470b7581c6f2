import type { Genotype, Stage } from '@ntaa/contracts';
import { emaUpdate, tf, type Param, type Sgd } from '@ntaa/engine';
import { JobError } from '@ntaa/contracts';
import { Rng } from '@ntaa/random';
import { Supernet, type NamedTensors } from '@ntaa/supernet';
import { Pace } from './plan.js';
import type { Run } from './run.js';
import type { TrainingBatches } from './target-data.js';
import { createOptimizer, learningRate, sandwichStep, trainable } from './train.js';

/** Weights of roughly the last hundred steps are averaged. */
const EMA_DECAY = 0.99;

export interface TrainerOptions {
  net: Supernet;
  /** Under which names the weights are kept in checkpoints. */
  role: string;
  stage: Stage;
  message: string;
  steps: number;
  started: number;
  deadline: number | null;
  /** Which part of the schedule this is, when others come before or after it. */
  part?: readonly [number, number];
  batches: TrainingBatches;
  peak: number;
  weightDecay: number;
  /** Learning rate of the classifier relative to the backbone. */
  headRate: number;
  /** Genotypes of a step; the first learns from the labels, the others from it. */
  sample(step: number): readonly Genotype[];
  /** Multiply-accumulates of a training image through these genotypes. */
  cost(genotypes: readonly Genotype[]): number;
  ema: boolean;
}

/** Trains one network, in one go or in parts, checkpointing and reporting as it goes. Owns optimizer and average, not the network. */
export class Trainer {
  readonly #run: Run;
  readonly #options: TrainerOptions;
  readonly #optimizer: Sgd = createOptimizer();
  readonly #params: Param[];
  readonly #ema: tf.Variable[];
  readonly #pace: Pace;

  constructor(run: Run, options: TrainerOptions) {
    this.#run = run;
    this.#options = options;
    this.#params = trainable(options.net, options);
    this.#pace = new Pace(options.steps, options.started, options.deadline, options.part);
    const average = run.weights.get(`${options.role}.ema`);
    this.#ema = options.ema ? this.#params.map((param) => averageOf(param, average)) : [];
    const momentum = run.weights.get(`${options.role}.momentum`);
    if (momentum) this.#optimizer.load(Object.fromEntries([...momentum].map(([name, t]) => [name, t.data])));
  }

  get fraction(): number {
    return this.#pace.fraction(this.#run.state.step, this.#run.ports.now());
  }

  /** Trains until this fraction of the whole training is over. False when the user said stop before. */
  async until(fraction: number): Promise<boolean> {
    const run = this.#run;
    let now = this.fraction;
    while (now < fraction) {
      if (await run.breathe()) return false;
      this.#step(learningRate(this.#options.peak, now));
      run.state.step += 1;
      if (run.due) await this.save();
      now = this.fraction;
    }
    if (fraction === 1 && run.state.step < this.#options.steps && run.state.cut === 'no')
      run.state.cut = 'clock';
    return true;
  }

  #step(rate: number): void {
    const { net, batches, stage, message } = this.#options;
    const run = this.#run;
    const genotypes = this.#options.sample(run.state.step);
    const images = new Map<number, tf.Tensor4D>();
    let labels = new Int32Array();
    for (const { resolution } of genotypes) {
      if (images.has(resolution)) continue;
      const batch = batches.batch(run.state.step, resolution);
      images.set(resolution, batch.images);
      labels = batch.labels as Int32Array<ArrayBuffer>;
    }
    const targets = tf.tensor2d(run.task.targets(labels, net.outputs), [labels.length, net.outputs]);
    const batch = { images: (resolution: number) => images.get(resolution)!, targets };
    const loss = sandwichStep(net, genotypes, batch, this.#optimizer, this.#params, rate);
    targets.dispose();
    for (const tensor of images.values()) tensor.dispose();
    if (this.#ema.length > 0) {
      const decay = Math.min(EMA_DECAY, (1 + run.state.step) / (10 + run.state.step));
      emaUpdate(
        this.#ema,
        this.#params.map((p) => p.variable),
        decay,
      );
    }
    if (!Number.isFinite(loss))
      throw new JobError(
        'training-diverged',
        `the training loss of ${stage} became ${loss} at step ${run.state.step}`,
      );
    run.worked(
      stage,
      this.#options.cost(genotypes) * labels.length,
      labels.length,
      `${message}, loss ${loss.toFixed(3)}`,
    );
  }

  /** Writes weights, average and momentum into the run's checkpoint and commits it. */
  async save(): Promise<void> {
    this.keep();
    await this.#run.save();
  }

  /** Puts weights, average and momentum where checkpoints, and trainers that go on from here, find them. */
  keep(): void {
    const { net, role } = this.#options;
    const { weights } = this.#run;
    weights.set(role, net.tensors());
    if (this.#ema.length > 0) weights.set(`${role}.ema`, this.#averages());
    const momentum: NamedTensors = new Map();
    for (const [name, data] of Object.entries(this.#optimizer.state()))
      momentum.set(name, { shape: [data.length], data });
    weights.set(`${role}.momentum`, momentum);
  }

  /** The network with averaged weights; the caller disposes it. */
  averaged(): Supernet {
    const { net } = this.#options;
    return Supernet.load(net.space, this.#averages(), net.outputs, new Rng('unused'));
  }

  #averages(): NamedTensors {
    return new Map(
      this.#params.map((param, i) => [
        param.name,
        { shape: [...param.variable.shape], data: Float32Array.from(this.#ema[i]!.dataSync()) },
      ]),
    );
  }

  dispose(): void {
    this.#optimizer.dispose();
    for (const variable of this.#ema) variable.dispose();
  }
}

/** Finished training leaves no average and no momentum in later checkpoints. */
export function forgetTraining(run: Run, role: string): void {
  run.weights.delete(`${role}.momentum`);
  run.weights.delete(`${role}.ema`);
}

function averageOf(param: Param, saved: NamedTensors | undefined): tf.Variable {
  const data = saved?.get(param.name)?.data;
  return tf.tidy(() =>
    tf.variable(data ? tf.tensor(data, param.variable.shape) : param.variable.clone(), false),
  );
}
