import type { Genotype } from '@ntaa/contracts';
import { softmaxCrossEntropy, tf } from '@ntaa/engine';
import { cost, Distribution, largest } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import type { Supernet } from '@ntaa/supernet';
import { CALIBRATION_IMAGES } from './evaluate.js';
import type { Speeds } from './plan.js';
import type { Run } from './run.js';
import { TrainingBatches } from './target-data.js';
import { sandwich, trainingCost } from './transfer.js';

export interface Measured extends Speeds {
  /** Training seconds for one multiply-accumulate. */
  perMac: number;
}

const REPEATS = 2;
/** Small networks keep the kernels less busy than the large ones measured here. */
const SMALL_NET_OVERHEAD = 1.05;

/** Times sandwich steps on real batches, without changing a weight. Seconds an image. */
export function measureSpeeds(run: Run, net: Supernet, fixed: Genotype): Measured {
  const batches = new TrainingBatches(run.data, run.data.splits.train, 32, [run.seed, 'speed']);
  const uniform = Distribution.uniform(net.space);
  let seconds = 0;
  let macs = 0;
  for (let repeat = 0; repeat <= REPEATS; repeat++) {
    const genotypes = sandwich(net.space, uniform, new Rng(run.seed, 'speed', repeat));
    const began = performance.now();
    for (const genotype of genotypes) forwardBackward(net, genotype, batches, repeat, run);
    if (repeat === 0) continue; // the first pass pays for compilation and memory
    seconds += (performance.now() - began) / 1000;
    macs += trainingCost(net, genotypes) * batches.batchSize;
  }
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

/** Mean multiply-accumulates of a sandwich, whose two random nets vary a lot. */
function typicalSandwich(net: Supernet, seed: number): number {
  const uniform = Distribution.uniform(net.space);
  const draws = 50;
  let sum = 0;
  for (let i = 0; i < draws; i++)
    sum += trainingCost(net, sandwich(net.space, uniform, new Rng(seed, 'typical', i)));
  return sum / draws;
}

function forwardBackward(
  net: Supernet,
  genotype: Genotype,
  batches: TrainingBatches,
  step: number,
  run: Run,
): void {
  const { images, labels } = batches.batch(step, genotype.resolution);
  const targets = tf.tensor2d(run.task.targets(labels, net.outputs), [labels.length, net.outputs]);
  const { value, grads } = tf.variableGrads(() =>
    softmaxCrossEntropy(net.forward(images, genotype, 'batch').logits, targets),
  );
  value.dataSync();
  tf.dispose([value, grads, images, targets]);
}

/** Augmentation, optimizer and weight averaging, relative to forward and backward. */
const STEP_OVERHEAD = 1.12;

/** Training seconds an image of an extracted network: what finetuning it will really cost. */
export function finetuningSpeed(run: Run, net: Supernet): number {
  const batches = new TrainingBatches(run.data, run.data.splits.train, run.state.plan.batchSize.finetune, [
    run.seed,
    'speed',
  ]);
  const genotype = largest(net.space);
  const times: number[] = [];
  for (let repeat = 0; repeat < 4; repeat++) {
    const began = performance.now();
    forwardBackward(net, genotype, batches, repeat, run);
    times.push(performance.now() - began);
  }
  // The first pays for compilation and memory; of the others the median.
  const [, middle = 0] = times.slice(1).sort((a, b) => a - b);
  return (STEP_OVERHEAD * middle) / 1000 / batches.batchSize;
}
