import type { Genotype, Metrics, SearchSpace } from '@ntaa/contracts';
import { fixedArchitecture, largest } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { extract, Supernet, type BnStatistics, type NamedTensors } from '@ntaa/supernet';
import { answers, calibrationSubset, FINAL_CALIBRATION } from './evaluate.js';
import { initialiseHead } from './head.js';
import type { Run } from './run.js';
import { deployed, labelled, truthOf } from './target-data.js';
import { slicesOf } from '@ntaa/tasks';
import { forgetTraining, statisticsOf, Trainer } from './trainer.js';
import { trainingCost } from './transfer.js';

const FINETUNE_RATE = 0.1;
const WEIGHT_DECAY = 5e-4;

/**
 * Once the search is over nothing is selected on validation images any more, and they join the training set. Those of
 * the source domain, if there is one, stay: all that can be measured with labels is measured on them.
 */
export const finetuningImages = ({ data }: Run): number[] =>
  [...data.splits.train, ...deployed(data, data.splits.validation)].sort((a, b) => a - b);

interface FinetuneOptions {
  role: string;
  /** Of the whole schedule. */
  steps: number;
  /** Part of the schedule to train now; the rest has its own call. */
  part: readonly [number, number];
  deadline: number | null;
  message: string;
  images: readonly number[];
  /** Learning rate and weight decay where others than the usual ones are tried (experiments/tune.mjs). */
  peak?: number;
  weightDecay?: number;
}

/**
 * Finetunes an extracted architecture in place, for a part of the schedule. Returns its averaged weights as a network; the
 * statistics that its batch norms may have settled on are with the run's weights (see `statisticsOf`).
 */
export async function finetune(run: Run, net: Supernet, options: FinetuneOptions): Promise<Supernet> {
  const { state, seed } = run;
  const genotype = largest(net.space);
  const [, to] = options.part;
  const trainer = await Trainer.start(run, {
    ...options,
    net,
    stage: 'finetune',
    started: state.phaseStarted,
    indices: options.images,
    batchSize: state.plan.batchSize.finetune,
    path: [seed, 'finetune'],
    peak: options.peak ?? FINETUNE_RATE,
    hyperparameters: { weightDecay: options.weightDecay ?? WEIGHT_DECAY, headRate: 1 },
    sample: () => [genotype],
    cost: (genotypes) => trainingCost(net, genotypes),
    ema: true,
    ...(run.task.settles && { settled: 1 - run.task.settles }),
  });
  try {
    await trainer.until(to);
    if (to < 1) trainer.keep();
    else {
      trainer.keepStatistics();
      forgetTraining(run, options.role);
    }
    return trainer.averaged();
  } finally {
    trainer.dispose();
  }
}

/**
 * Quality on the test split of a network as it will be delivered. Read once per network, at the very end. `role`: under which the
 * run's weights may hold statistics that its batch norms settled on.
 */
export function test(
  run: Run,
  { net, genotype, role }: { net: Supernet; genotype: Genotype; role?: string },
  heldOut?: Float32Array,
): { metrics: Metrics; bn: BnStatistics; predictions: Float32Array } {
  const { data, task, seed } = run;
  const source = data.unlabelled ? labelled(data, data.splits.validation) : [];
  const indices = [...source, ...data.splits.test];
  const calibration = calibrationSubset(finetuningImages(run), seed, FINAL_CALIBRATION);
  const settled = role === undefined ? undefined : run.weights.get(statisticsOf(role));
  const { predictions, bn } = answers(net, genotype, data, task.reads, indices, calibration, settled);
  const truth = { ...truthOf(data, indices), ...(heldOut && { heldOut }) };
  const metrics = task.metrics(predictions, truth);
  const hits = task.hits?.(predictions, truth);
  const slices = hits && slicesOf(data.sliceColumns ?? [], indices, hits);
  const own = predictions.subarray((source.length * predictions.length) / indices.length);
  return { metrics: slices?.length ? { ...metrics, slices } : metrics, bn, predictions: own };
}

/** The network weights-only adaptation starts from: a fixed architecture with the source supernet's weights and a fitted head. */
export function baselineNet(
  run: Run,
  space: SearchSpace,
  source: NamedTensors,
  outputs: number,
  seed: number,
): Supernet {
  const supernet = Supernet.load(space, source, outputs, new Rng(seed, 'head'));
  const genotype = fixedArchitecture(space, outputs, run.constraints);
  const images = finetuningImages(run);
  initialiseHead(supernet, genotype, run.data, run.task, images, calibrationSubset(images, seed));
  const net = extract(supernet, genotype);
  supernet.dispose();
  return net;
}
