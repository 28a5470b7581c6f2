import type { Genotype, Metrics, SearchSpace, StopReason } from '@ntaa/contracts';
import { tf } from '@ntaa/engine';
import { canonical, Distribution, handDesigned, largest, restrictResolutions, smallest } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { Supernet, type BnStatistics, type NamedTensors } from '@ntaa/supernet';
import { taskFor } from '@ntaa/tasks';
import { Crew } from './crew.js';
import { decodeCheckpoint } from './checkpoint.js';
import { calibrationSubset, predictAll, recalibrate } from './evaluate.js';
import { makePretrainPlan } from './plan.js';
import type { Ports } from './ports.js';
import { Run } from './run.js';
import { freshState, halveBatches } from './state.js';
import { TrainingBatches, truthOf, type BatchPart, type TargetData } from './target-data.js';
import { forgetTraining, Trainer } from './trainer.js';
import { sandwich, trainingCost } from './transfer.js';

export interface PretrainInput {
  /** Prepared for the task `self-supervised` where that is the paradigm. */
  data: TargetData;
  paradigm?: 'supervised' | 'self-supervised';
  space: SearchSpace;
  seed: number;
  startedAt: number;
  budget: { max_seconds?: number | null; max_epochs?: number | null };
  /** Peak learning rate for a batch of 64. */
  peak?: number;
  /** An earlier attempt ran out of memory: batches of half the size. */
  halfBatch?: boolean;
  /** As in AdaptInput. */
  threads?: number;
  /** Weights to begin with instead of random ones, without a classifier. */
  from?: NamedTensors;
  ports: Ports;
}

export interface PretrainOutcome {
  /** Without a projector, which nobody wants afterwards. */
  tensors: NamedTensors;
  /** On the source's held-out images, by architecture: accuracy, or how well the other view of an image is found. */
  subnets: { name: string; genotype: Genotype; metrics: Metrics }[];
  stopReason: StopReason;
  seconds: number;
}

const PEAK_RATE = 0.1;
/** Width of the space in which views are compared, and images of a step: each but its pair is something to differ from. */
const PROJECTION = 128;
const VIEWS = 128;
/** Held-out images whose views are looked for. */
const LOOKED_FOR = 500;
/** Features have collapsed when their deviation, at length 1, is below this share of what is possible. */
const COLLAPSED = 0.2;

/** Trains a supernet from random weights on source images, labelled or not: sandwich rule with in-place distillation. */
export async function pretrain(input: PretrainInput): Promise<PretrainOutcome> {
  const { data, seed, ports } = input;
  const space = restrictResolutions(input.space, [...data.packs.keys()]);
  const blind = input.paradigm === 'self-supervised';
  const task = taskFor(blind ? 'self-supervised' : 'classification');
  const outputs = blind ? PROJECTION : data.labels.length;
  const saved = await ports.checkpoint.load();
  const { state, weights } = saved ? decodeCheckpoint(saved) : { state: freshState(), weights: new Map() };
  if (!saved) {
    state.plan = makePretrainPlan(input, data.splits.train.length, blind ? VIEWS : undefined);
    state.phaseStarted = ports.now();
  }
  if (input.halfBatch) halveBatches(state);
  const crew = await Crew.start(input.threads);
  const run = new Run({ ports, crew, data, task, seed, constraints: {}, axis: 'macs', state, weights });
  const tensors = weights.get('supernet') ?? input.from;
  const net = tensors
    ? Supernet.load(space, tensors, outputs, new Rng(seed, 'head'))
    : Supernet.initialise(space, outputs, new Rng(seed, 'initialise'));
  if (!saved) run.enter('pretrain', 'training the supernet on the source');
  try {
    await train(run, net, input);
    weights.set('supernet', net.tensors());
    run.enter('evaluate', 'measuring subnets on held-out source images');
    const tensors = net.tensors();
    if (blind) for (const name of ['classifier.weight', 'classifier.bias']) tensors.delete(name);
    return {
      tensors,
      subnets: measureSubnets(run, net),
      stopReason:
        state.cut === 'user' ? 'user_stopped' : state.cut === 'clock' ? 'budget_exhausted' : 'completed',
      seconds: (ports.now() - input.startedAt) / 1000,
    };
  } finally {
    net.dispose();
    await crew.close();
  }
}

async function train(run: Run, net: Supernet, input: PretrainInput): Promise<void> {
  const { state, data, seed } = run;
  const { plan } = state;
  const byResolution = net.space.resolutions.map((_, i) => {
    const upTo = restrictResolutions(net.space, net.space.resolutions.slice(0, i + 1));
    const at = restrictResolutions(net.space, [net.space.resolutions[i]!]);
    return { upTo, uniform: Distribution.uniform(at) };
  });
  const trainer = await Trainer.start(run, {
    net,
    role: 'supernet',
    stage: 'pretrain',
    message: 'pretraining the supernet',
    steps: plan.transferSteps,
    started: state.phaseStarted,
    deadline: plan.transferDeadline,
    indices: data.splits.train,
    batchSize: plan.batchSize.transfer,
    path: [seed, 'pretrain'],
    peak: input.peak ?? PEAK_RATE,
    hyperparameters: { weightDecay: 1e-4, headRate: 1 },
    // One resolution a step for all but the smallest network. Coarse ones more often: they are cheaper.
    sample: (step) => {
      const rng = new Rng(seed, 'sandwich', step);
      const { upTo, uniform } = byResolution[rng.categorical(net.space.resolutions.map((side) => 1 / side))]!;
      return sandwich(upTo, uniform, rng);
    },
    cost: (genotypes) => trainingCost(net, genotypes),
    ema: false,
  });
  run.expectWork(plan.transferSteps, state.step);
  try {
    await trainer.until(1);
  } finally {
    trainer.dispose();
    forgetTraining(run, 'supernet');
  }
}

function measureSubnets(run: Run, net: Supernet): PretrainOutcome['subnets'] {
  const { data, task, seed } = run;
  const uniform = Distribution.uniform(net.space);
  const chosen: [string, Genotype][] = [
    ['largest', largest(net.space)],
    ['hand-designed', handDesigned(net.space)],
    ['smallest', smallest(net.space)],
    ...[1, 2, 3].map((i): [string, Genotype] => [`random ${i}`, uniform.sample(new Rng(seed, 'card', i))]),
  ];
  const calibration = calibrationSubset(data.splits.train, seed, 2000);
  return chosen.map(([name, genotype]) => {
    const bn = recalibrate(net, genotype, data, calibration);
    const metrics = task.reads === 'features' ? viewsFound(run, net, genotype, bn) : told(genotype, bn);
    bn.dispose();
    const share = 'top1' in metrics ? metrics.top1 : 'rank1' in metrics ? metrics.rank1 : 0;
    run.tell('evaluate', `${name} ${canonical(genotype)}: ${(100 * share).toFixed(1)}%`, true);
    return { name, genotype, metrics };
  });

  function told(genotype: Genotype, bn: BnStatistics): Metrics {
    const predictions = predictAll(net, genotype, bn, data, data.splits.test);
    return task.metrics(predictions, truthOf(data, data.splits.test));
  }
}

/** How well features find the other of two random views of held-out images among all of them. Warns of a collapse. */
function viewsFound(run: Run, net: Supernet, genotype: Genotype, bn: BnStatistics): Metrics {
  const { data, task, seed } = run;
  const found = calibrationSubset(data.splits.test, seed, LOOKED_FOR);
  const indices = found.length < 2 ? [...found, ...found] : found;
  const size = Math.min(VIEWS, indices.length) & ~1;
  const batches = new TrainingBatches(data, indices, size, [seed, 'views'], task);
  const steps = Math.floor((2 * indices.length) / size);
  const { width } = net.space.head;
  const features = new Float32Array(steps * size * width);
  for (let step = 0; step < steps; step++) {
    const [{ images }] = batches.batch(step, genotype.resolution) as [BatchPart];
    const seen = tf.tidy(() => net.forward(images, genotype, bn).features);
    features.set(seen.dataSync(), step * size * width);
    tf.dispose([images, seen]);
  }
  const spread = spreadOf(features, width);
  if (spread < COLLAPSED) {
    const message = `features have collapsed: their spread is ${spread.toFixed(3)} of what is possible`;
    run.ports.events([{ type: 'warning', data: { message, genotype: canonical(genotype) } }]);
  }
  const places = Array.from({ length: steps * size }, (_, i) => i);
  return task.metrics(features, {
    labels: Float32Array.from(places, (i) => i >> 1),
    cameras: Int32Array.from(places, (i) => i & 1),
  });
}

/** Standard deviation of rows at length 1, over what it is where they point everywhere: 1 / sqrt(width). */
function spreadOf(rows: Float32Array, width: number): number {
  const n = rows.length / width;
  const mean = new Float64Array(width);
  for (let i = 0; i < rows.length; i += width) {
    const length = Math.hypot(...rows.subarray(i, i + width)) || 1;
    for (let c = 0; c < width; c++) mean[c]! += rows[i + c]! / length / n;
  }
  // Squares of rows of length 1 sum to 1.
  return Math.sqrt(Math.max(0, 1 - mean.reduce((sum, value) => sum + value ** 2, 0)));
}
