import type { AdaptRequest, SearchSpace } from '@ntaa/contracts';
import { JobError } from '@ntaa/contracts';
import {
  cost,
  Distribution,
  fixedArchitecture,
  headOutputs,
  largest,
  nearestAchievable,
  restrictResolutions,
  smallest,
  violation,
} from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { Supernet, type NamedTensors } from '@ntaa/supernet';
import { taskFor } from '@ntaa/tasks';
import { decodeCheckpoint } from './checkpoint.js';
import type { Crew } from './crew.js';
import { calibrationSubset } from './evaluate.js';
import { finetuningImages } from './finetune.js';
import { initialiseHead } from './head.js';
import { isLinear } from './linear-evaluation.js';
import { measureLatency } from './latency.js';
import { makePlan, makeProbePlan, searchRounds, type Plan } from './plan.js';
import type { Ports } from './ports.js';
import { Run, type Axis } from './run.js';
import { measureSpeeds, type Measured } from './speed.js';
import { freshState, halveBatches } from './state.js';
import type { TargetData } from './target-data.js';
import { costWithLatency } from './transfer.js';

export interface AdaptInput {
  request: AdaptRequest;
  /** When the job's first attempt began, ms since the epoch: the clock of `budget.max_seconds`. */
  startedAt: number;
  data: TargetData;
  /**
   * Of domain adaptation: class numbers of the target's test images, in the order of the split; -1 where there is none.
   * Read once, when everything has been decided.
   */
  heldOut?: Float32Array | undefined;
  /** The source supernet: its search space and its weights. */
  space: SearchSpace;
  source: NamedTensors;
  ports: Ports;
  /** Threads to work on, the calling one included; nothing computed depends on them. Default: see Crew.start. */
  threads?: number;
  /** An earlier attempt ran out of memory: batches of half the size. */
  halfBatch?: boolean;
}

/** Supernets are adapted at resolutions that images have pixels for; a space of one architecture stays as it is. */
function spaceFor(space: SearchSpace, data: TargetData): SearchSpace {
  return restrictResolutions(
    space,
    space.resolutions.filter((resolution) => data.packs.has(resolution)),
  );
}

/** A new job: decides its resolutions and its plan, and fits the head. */
export async function begin(input: AdaptInput, crew: Crew): Promise<Run> {
  const { request, ports, data } = input;
  const task = taskFor(request.task);
  const outputs = headOutputs(request.task, data.labels.length);
  const constraints = request.constraints ?? {};
  const all = spaceFor(input.space, data);
  if (violation(cost(all, smallest(all), outputs), constraints) > 0) {
    const nearest = nearestAchievable(all, outputs, constraints);
    throw new JobError(
      'constraint-infeasible',
      `no architecture meets the constraints; nearest: ${JSON.stringify(nearest)}`,
    );
  }
  const seed = request.seed ?? 0;
  const run = new Run({
    ports,
    crew,
    data,
    task,
    seed,
    constraints,
    axis: axisOf(request),
    state: freshState(),
    weights: new Map(),
  });
  run.state.halved = input.halfBatch ?? false;
  // From the finest resolutions to the coarsest: the first that leaves time for enough passes over the data.
  let space = all;
  let net = source(input, space, outputs);
  const linear = isLinear(request);
  let measured = linear ? null : await measure(run, net, input);
  while (measured && !enoughEpochs(run, input, measured) && space.resolutions.length > 1) {
    net.dispose();
    space = restrictResolutions(space, space.resolutions.slice(0, -1));
    net = source(input, space, outputs);
    measured = await measure(run, net, input);
  }
  if (run.axis === 'latency_ms' || constraints.max_latency_ms != null) {
    run.state.latency = measureLatency(net, seed);
    requireReachable(run, net);
  }
  run.state.resolutions = space.resolutions;
  run.state.plan = linear
    ? makeProbePlan({ budget: request.budget ?? {}, startedAt: input.startedAt })
    : planFor(run, input, measured);
  run.state.speed = measured?.perMac ?? null;
  const { train } = data.splits;
  if (linear) run.state.phase = 'search';
  else initialiseHead(net, largest(space), data, task, train, calibrationSubset(train, seed));
  run.weights.set('supernet', net.tensors());
  net.dispose();
  run.state.distribution = Distribution.uniform(space).toJSON();
  run.state.phaseStarted = ports.now();
  run.state.seconds['prepare'] = (ports.now() - input.startedAt) / 1000;
  return run;
}

const axisOf = ({ objective = 'macs' }: AdaptRequest): Axis =>
  objective === 'latency' ? 'latency_ms' : objective;

/** Latency is only known once it was measured here, so this constraint is judged when the job runs. */
function requireReachable(run: Run, net: Supernet): void {
  const least = costWithLatency(run, net, smallest(net.space)).latency_ms!;
  const limit = run.constraints.max_latency_ms;
  if (limit != null && least > limit)
    throw new JobError(
      'constraint-infeasible',
      `max_latency_ms ${limit} cannot be met on this machine; the fastest architecture takes ${least.toFixed(2)} ms`,
    );
}

const source = (input: AdaptInput, space: SearchSpace, outputs: number): Supernet =>
  Supernet.load(space, input.source, outputs, new Rng(input.request.seed ?? 0, 'head'));

/** A job without a clock must not depend on the machine's speed, so nothing is measured for it. */
async function measure(run: Run, net: Supernet, input: AdaptInput): Promise<Measured | null> {
  const { max_seconds, max_candidates } = input.request.budget ?? {};
  if (max_seconds == null || max_candidates != null) return null;
  return measureSpeeds(run, net, fixedArchitecture(net.space, net.outputs, run.constraints));
}

function planFor(run: Run, input: AdaptInput, measured: Measured | null): Plan {
  return makePlan({
    budget: input.request.budget ?? {},
    train: run.data.splits.train.length,
    trainAndValidation: finetuningImages(run).length,
    baseline: input.request.baseline ?? true,
    now: run.ports.now(),
    startedAt: input.startedAt,
    speeds: measured,
    halved: run.state.halved,
    leastBatch: run.task.leastBatch,
  });
}

const ENOUGH_EPOCHS = 8;
function enoughEpochs(run: Run, input: AdaptInput, measured: Measured): boolean {
  const plan = planFor(run, input, measured);
  return plan.transferSteps * plan.batchSize.transfer >= ENOUGH_EPOCHS * run.data.splits.train.length;
}

/** A job as its last checkpoint left it. */
export function resume(input: AdaptInput, crew: Crew, bytes: Uint8Array): Run {
  const { state, weights } = decodeCheckpoint(bytes);
  // Older versions had finalists finetuned in a phase of its own: the search is over, and one is chosen now.
  if ((state.phase as string) === 'race') {
    state.phase = 'search';
    state.plan.searchCandidates = 0;
    state.step = searchRounds(state.plan);
  }
  if (input.halfBatch) halveBatches(state);
  if (state.cut === 'user' && input.ports.wanted() === 'run') state.cut = 'no';
  const run = new Run({
    ports: input.ports,
    crew,
    data: input.data,
    task: taskFor(input.request.task),
    seed: input.request.seed ?? 0,
    constraints: input.request.constraints ?? {},
    axis: axisOf(input.request),
    state,
    weights,
  });
  run.best = state.archive.length > 0 ? Math.max(...state.archive.map((r) => r.quality)) : undefined;
  return run;
}
