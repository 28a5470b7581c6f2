import type { Genotype, Stage } from '@ntaa/contracts';
import { emaUpdate, tf, type Param } from '@ntaa/engine';
import { JobError } from '@ntaa/contracts';
import { largest } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { Supernet, type NamedTensors } from '@ntaa/supernet';
import type { SharedTraining, TrainingSetup } from './crew.js';
import { recordLoss } from './curves.js';
import { calibrationSubset, FINAL_CALIBRATION, recalibrate } from './evaluate.js';
import { Pace } from './plan.js';
import type { Run } from './run.js';
import { learningRate } from './train.js';

/** Weights of roughly the last hundred steps are averaged. */
const EMA_DECAY = 0.99;

export interface TrainerOptions extends Pick<
  TrainingSetup,
  'indices' | 'batchSize' | 'path' | 'hyperparameters'
> {
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
  peak: number;
  /** Genotypes of a step; the first learns from the labels, the others from it. */
  sample(step: number): readonly Genotype[];
  /** Multiply-accumulates of a training image through these genotypes. */
  cost(genotypes: readonly Genotype[]): number;
  ema: boolean;
  /** From where in the schedule, 0..1, batch norms keep their statistics. Of trainings of one architecture only. */
  settled?: number;
}

/** Trains one network, in one go or in parts, checkpointing and reporting as it goes. Owns optimizer and average, not the network. */
export class Trainer {
  readonly #run: Run;
  readonly #options: TrainerOptions;
  readonly #training: SharedTraining;
  readonly #params: readonly Param[];
  readonly #ema: tf.Variable[];
  readonly #pace: Pace;
  /** Of batch norms that keep theirs. */
  #statistics: NamedTensors | undefined;

  private constructor(run: Run, options: TrainerOptions, training: SharedTraining) {
    this.#run = run;
    this.#options = options;
    this.#training = training;
    this.#params = training.replica.params;
    this.#pace = new Pace(options.steps, options.started, options.deadline, options.part);
    const average = run.weights.get(`${options.role}.ema`);
    this.#ema = options.ema ? this.#params.map((param) => averageOf(param, average)) : [];
    const statistics = run.weights.get(statisticsOf(options.role));
    if (statistics) this.#settle(statistics);
  }

  /** Begins, or goes on with what the run's weights hold of it. */
  static async start(run: Run, options: TrainerOptions): Promise<Trainer> {
    const { data, task } = run;
    const momentum = run.weights.get(`${options.role}.momentum`);
    const hyperparameters = { ...options.hyperparameters, steps: options.steps };
    const training = await run.crew.train(options.net, { ...options, hyperparameters, data, task, momentum });
    return new Trainer(run, options, training);
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
      if (!this.#statistics && now >= (this.#options.settled ?? Infinity)) this.#settle(this.#measured());
      this.#step(learningRate(this.#options.peak, now));
      run.state.step += 1;
      if (run.due) await this.save();
      now = this.fraction;
    }
    if (fraction === 1 && run.state.step < this.#options.steps && run.state.cut === 'no')
      run.state.cut = 'clock';
    return true;
  }

  #settle(statistics: NamedTensors): void {
    this.#statistics = statistics;
    this.#training.settle(statistics);
  }

  #measured(): NamedTensors {
    const { net, indices } = this.#options;
    const { data, seed } = this.#run;
    const images = calibrationSubset(indices, seed, FINAL_CALIBRATION);
    const bn = recalibrate(net, largest(net.space), data, images);
    const statistics = bn.tensors();
    bn.dispose();
    return statistics;
  }

  #step(rate: number): void {
    const { stage, message } = this.#options;
    const run = this.#run;
    const genotypes = this.#options.sample(run.state.step);
    const loss = this.#training.step(run.state.step, genotypes, rate, run.state.plan.mixing);
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
    const images = this.#training.replica.batches.batchSize;
    const fraction = run.state.step / this.#options.steps;
    recordLoss(run.state, this.#options.role, { fraction, images, loss });
    const macs = this.#options.cost(genotypes) * images;
    run.worked(stage, macs, images, `${message}, loss ${loss.toFixed(3)}`);
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
    weights.set(`${role}.momentum`, this.#training.replica.momentum());
    this.keepStatistics();
  }

  /** Where batch norms kept theirs, a network is not itself with any others. */
  keepStatistics(): void {
    if (this.#statistics) this.#run.weights.set(statisticsOf(this.#options.role), this.#statistics);
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
    this.#training.dispose();
    for (const variable of this.#ema) variable.dispose();
  }
}

/** Under which name the statistics are kept that a network's batch norms settled on. */
export const statisticsOf = (role: string): string => `${role}.bn`;

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
