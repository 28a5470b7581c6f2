import type { ClassificationMetrics, Genotype, SearchSpace, StopReason } from '@ntaa/contracts';
import { canonical, Distribution, handDesigned, largest, restrictResolutions, smallest } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { Supernet, type NamedTensors } from '@ntaa/supernet';
import { taskFor } from '@ntaa/tasks';
import { Crew } from './crew.js';
import { decodeCheckpoint } from './checkpoint.js';
import { calibrationSubset, predictAll, recalibrate } from './evaluate.js';
import { makePretrainPlan } from './plan.js';
import type { Ports } from './ports.js';
import { Run } from './run.js';
import { freshState, halveBatches } from './state.js';
import { truthOf, type TargetData } from './target-data.js';
import { forgetTraining, Trainer } from './trainer.js';
import { sandwich, trainingCost } from './transfer.js';

export interface PretrainInput {
  data: TargetData;
  space: SearchSpace;
  seed: number;
  startedAt: number;
  budget: { max_seconds?: number | null; max_epochs?: number | null };
  /** Peak learning rate for a batch of 64. */
  peak?: number;
  /** An earlier attempt ran out of memory: batches of half the size. */
  halfBatch?: boolean;
  /** Weights to begin with instead of random ones, without a classifier. */
  from?: NamedTensors;
  ports: Ports;
}

export interface PretrainOutcome {
  tensors: NamedTensors;
  /** Accuracy on the source's held-out images, by architecture. */
  subnets: { name: string; genotype: Genotype; metrics: ClassificationMetrics }[];
  stopReason: StopReason;
  seconds: number;
}

const PEAK_RATE = 0.1;

/** Trains a supernet from random weights on labelled source images: sandwich rule with in-place distillation. */
export async function pretrain(input: PretrainInput): Promise<PretrainOutcome> {
  const { data, seed, ports } = input;
  const space = restrictResolutions(input.space, [...data.packs.keys()]);
  const task = taskFor('classification');
  const outputs = data.labels.length;
  const saved = await ports.checkpoint.load();
  const { state, weights } = saved ? decodeCheckpoint(saved) : { state: freshState(), weights: new Map() };
  if (!saved) {
    state.plan = makePretrainPlan(input, data.splits.train.length);
    state.phaseStarted = ports.now();
  }
  if (input.halfBatch) halveBatches(state);
  const crew = await Crew.start();
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
    return {
      tensors: net.tensors(),
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
  const truth = truthOf(data, data.splits.test);
  return chosen.map(([name, genotype]) => {
    const bn = recalibrate(net, genotype, data, calibration);
    const predictions = predictAll(net, genotype, bn, data, data.splits.test);
    const metrics = task.metrics(predictions, truth) as ClassificationMetrics;
    bn.dispose();
    run.tell('evaluate', `${name} ${canonical(genotype)}: ${(100 * metrics.top1).toFixed(1)}%`, true);
    return { name, genotype, metrics };
  });
}
