import type { Genotype, Metrics, SearchSpace, StopReason } from '@ntaa/contracts';
import {
  canonical,
  cost,
  Distribution,
  handDesigned,
  largest,
  restrictResolutions,
  smallest,
} from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { Supernet, type NamedTensors } from '@ntaa/supernet';
import { taskFor } from '@ntaa/tasks';
import { Crew } from './crew.js';
import { decodeCheckpoint } from './checkpoint.js';
import { fanOut } from './fan-out.js';
import { CALIBRATION, measureSubnet, VIEWS } from './measure-subnet.js';
import { STARTING_MACS, type Measured } from './pieces.js';
import { makePretrainPlan } from './plan.js';
import type { Ports } from './ports.js';
import { Run } from './run.js';
import { freshState, halveBatches } from './state.js';
import type { TargetData } from './target-data.js';
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
/** Width of the space in which views are compared. */
const PROJECTION = 128;

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
      subnets: await measureSubnets(run, net),
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

/** Held-out measurements of some subnets, by whoever is free. */
async function measureSubnets(run: Run, net: Supernet): Promise<PretrainOutcome['subnets']> {
  const { data, task, seed } = run;
  const uniform = Distribution.uniform(net.space);
  const chosen: [string, Genotype][] = [
    ['largest', largest(net.space)],
    ['hand-designed', handDesigned(net.space)],
    ['smallest', smallest(net.space)],
    ...[1, 2, 3].map((i): [string, Genotype] => [`random ${i}`, uniform.sample(new Rng(seed, 'card', i))]),
  ];
  const tell = (i: number, { metrics }: Measured): void => {
    const [name, genotype] = chosen[i]!;
    const share = 'top1' in metrics ? metrics.top1 : 'rank1' in metrics ? metrics.rank1 : 0;
    run.tell('evaluate', `${name} ${canonical(genotype)}: ${(100 * share).toFixed(1)}%`, true);
  };
  const here = async (i: number): Promise<Measured> => {
    await run.breathe();
    const measured = measureSubnet({ net, data, task, seed }, chosen[i]![1]);
    tell(i, measured);
    return measured;
  };
  const { space, outputs } = net;
  const images = Math.min(CALIBRATION, data.splits.train.length) + data.splits.test.length;
  const genotypes = chosen.map(([, genotype]) => genotype);
  // No helper is there yet: its start has to be worth it.
  const macs = genotypes.reduce((sum, genotype) => sum + cost(space, genotype, outputs).macs, 0);
  const worthwhile = macs * images >= STARTING_MACS;
  const together = await fanOut<Measured>(run, {
    subject: { work: { kind: 'measure' }, task: task.name, space, outputs },
    tensors: () => net.tensors(),
    pieces: worthwhile ? genotypes.map((genotype) => [genotype]) : [],
    here,
    ahead: { pieces: [], here },
    arrived: tell,
  });
  const subnets: PretrainOutcome['subnets'] = [];
  for (const [i, [name, genotype]] of chosen.entries()) {
    // Also those that were not reached elsewhere because the user said stop.
    const { metrics, collapsed } = together?.[i] ?? (await here(i));
    if (collapsed !== undefined) {
      const message = `features have collapsed: their spread is ${collapsed.toFixed(3)} of what is possible`;
      run.ports.events([{ type: 'warning', data: { message, genotype: canonical(genotype) } }]);
    }
    subnets.push({ name, genotype, metrics });
  }
  return subnets;
}
