import type { Genotype } from '@ntaa/contracts';
import { CALIBRATION_IMAGES, cost, Distribution, largest } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import type { Supernet } from '@ntaa/supernet';
import type { SharedTraining } from './crew.js';
import { batchFor, type Speeds } from './plan.js';
import type { Run } from './run.js';
import { sandwich, trainingCost } from './transfer.js';

export interface Measured extends Speeds {
  /** Training seconds for one multiply-accumulate. */
  perMac: number;
}

const REPEATS = 2;
/** Small networks keep the kernels less busy than the large ones measured here. */
const SMALL_NET_OVERHEAD = 1.05;

/** Times sandwich steps on real batches, without changing a weight. Seconds an image. */
export async function measureSpeeds(run: Run, net: Supernet, fixed: Genotype): Promise<Measured> {
  const uniform = Distribution.uniform(net.space);
  const training = await rehearsal(
    run,
    net,
    batchFor(run.data.splits.train.length, run.state.halved, run.task.leastBatch),
  );
  let seconds = 0;
  let macs = 0;
  for (let repeat = 0; repeat <= REPEATS; repeat++) {
    const genotypes = sandwich(net.space, uniform, new Rng(run.seed, 'speed', repeat));
    const began = performance.now();
    training.step(repeat, genotypes, null);
    if (repeat === 0) continue; // the first pass pays for compilation and memory
    seconds += (performance.now() - began) / 1000;
    macs += trainingCost(net, genotypes) * training.replica.batches.batchSize;
  }
  training.dispose();
  const perMac = (SMALL_NET_OVERHEAD * seconds) / macs;
  const train = (genotype: Genotype): number => perMac * 3 * cost(net.space, genotype, net.outputs).macs;
  const typical = typicalSandwich(net, run.seed);
  const judged =
    Math.min(CALIBRATION_IMAGES, run.data.splits.train.length) + run.data.splits.validation.length;
  return {
    perMac,
    sandwich: perMac * typical,
    fixed: train(fixed),
    evaluation: (judged * perMac * typical) / 3 / 4,
  };
}

/** A training whose steps are timed and never applied. */
const rehearsal = (run: Run, net: Supernet, batchSize: number): Promise<SharedTraining> =>
  run.crew.train(net, {
    data: run.data,
    task: run.task,
    indices: run.data.splits.train,
    batchSize,
    path: [run.seed, 'speed'],
    hyperparameters: { weightDecay: 0, headRate: 1 },
  });

/** Mean multiply-accumulates of a sandwich, whose two random nets vary a lot. */
function typicalSandwich(net: Supernet, seed: number): number {
  const uniform = Distribution.uniform(net.space);
  const draws = 50;
  let sum = 0;
  for (let i = 0; i < draws; i++)
    sum += trainingCost(net, sandwich(net.space, uniform, new Rng(seed, 'typical', i)));
  return sum / draws;
}

/** Optimizer and weight averaging, relative to everything else of a step. */
const STEP_OVERHEAD = 1.05;

/** Training seconds an image of an extracted network: what finetuning it will really cost. */
export async function finetuningSpeed(run: Run, net: Supernet): Promise<number> {
  const training = await rehearsal(run, net, run.state.plan.batchSize.finetune);
  const genotype = largest(net.space);
  const times: number[] = [];
  for (let repeat = 0; repeat < 4; repeat++) {
    const began = performance.now();
    training.step(repeat, [genotype], null);
    times.push(performance.now() - began);
  }
  const { batchSize } = training.replica.batches;
  training.dispose();
  // The first pays for compilation and memory; of the others the median.
  const [, middle = 0] = times.slice(1).sort((a, b) => a - b);
  return (STEP_OVERHEAD * middle) / 1000 / batchSize;
}
