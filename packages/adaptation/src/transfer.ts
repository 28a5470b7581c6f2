import type { Candidate, Genotype, SearchSpace } from '@ntaa/contracts';
import {
  canonical,
  cost,
  Distribution,
  fixedArchitecture,
  largest,
  paretoFront,
  smallest,
  violation,
} from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import type { Supernet } from '@ntaa/supernet';
import { fullExam, imagesOf, rescore, type Evaluation, type Exam } from './evaluate.js';
import type { EvaluationRecord } from './checkpoint.js';
import type { Judgement } from './crew.js';
import { recordJudged } from './curves.js';
import { judgeTogether } from './fan-out.js';
import { latencyOf } from './latency.js';
import { mixingFor } from './mixing.js';
import type { Run } from './run.js';
import { forgetTraining, Trainer } from './trainer.js';

/** Share of the transfer that samples uniformly before the first candidates are judged. */
const WARM = 0.4;
const RANDOM_SUBNETS = 2;
const TRANSFER_RATE = 0.05;

/** Forward and backward of one image cost about three forwards. */
export const trainingCost = (net: Supernet, genotypes: readonly Genotype[]): number =>
  genotypes.reduce((sum, genotype) => sum + 3 * cost(net.space, genotype, net.outputs).macs, 0);

/** Genotypes of a sandwich step: largest and smallest always, two drawn from `distribution`. */
export function sandwich(space: SearchSpace, distribution: Distribution, rng: Rng): Genotype[] {
  const drawn = Array.from({ length: RANDOM_SUBNETS }, () => distribution.sample(rng));
  return [largest(space), smallest(space), ...drawn];
}

/**
 * Joint transfer: trains the shared weights on the target while the distribution architectures are drawn from moves
 * towards those that do well, so that weights and architecture adapt together. Resumes at `run.state.step`.
 */
export async function transfer(run: Run, net: Supernet): Promise<void> {
  const { state, seed } = run;
  const { plan } = state;
  let distribution = Distribution.fromJSON(net.space, state.distribution);
  const trainer = await Trainer.start(run, {
    net,
    role: 'supernet',
    stage: 'transfer',
    message: 'adapting the supernet',
    steps: plan.transferSteps,
    started: state.phaseStarted,
    deadline: plan.transferDeadline,
    indices: run.data.splits.train,
    batchSize: plan.batchSize.transfer,
    path: [seed, 'transfer'],
    peak: TRANSFER_RATE,
    hyperparameters: { weightDecay: 1e-4, headRate: 2 },
    sample: (step) => sandwich(net.space, distribution, new Rng(seed, 'sandwich', step)),
    cost: (genotypes) => trainingCost(net, genotypes),
    ema: false,
  });
  try {
    while (state.version < plan.rounds) {
      const boundary = WARM + ((1 - WARM) * state.version) / plan.rounds;
      if (!(await trainer.until(boundary))) break;
      if (state.version === 0) plan.mixing = mixingFor(run, net);
      await evaluateRound(run, net, distribution);
      distribution = distribution.movedTowards(bestGenotypes(state.archive));
      state.distribution = distribution.toJSON();
      state.version += 1;
      await trainer.save();
    }
    if (state.cut !== 'user') await trainer.until(1);
    state.version += 1;
    state.passes += state.step * plan.batchSize.transfer;
    run.weights.set('supernet', net.tensors());
  } finally {
    trainer.dispose();
    forgetTraining(run, 'supernet');
  }
}

/** Judges the round's new architectures. */
async function evaluateRound(run: Run, net: Supernet, distribution: Distribution): Promise<void> {
  const { version, plan } = run.state;
  await judge(run, net, draw(run, net, distribution, version, plan.perRound), 'transfer');
}

/**
 * Architectures to be judged next: in the first round the anchors everybody wants to know, then draws from q. `before`: what
 * will have been judged by then, beside the archive.
 */
export function draw(
  run: Run,
  net: Supernet,
  distribution: Distribution,
  round: number,
  count: number,
  before: readonly Genotype[] = [],
): Genotype[] {
  const rng = new Rng(run.seed, 'candidates', round);
  const usual = fixedArchitecture(net.space, net.outputs, run.constraints);
  const anchors = round === 0 ? [usual, largest(net.space), smallest(net.space)] : [];
  const known = new Set([...run.state.archive.map((record) => record.key), ...before.map(canonical)]);
  const wanted: Genotype[] = [];
  for (let tries = 0; wanted.length < count && tries < 100 * count; tries++) {
    const genotype = anchors.shift() ?? distribution.sample(rng);
    const key = canonical(genotype);
    // An infeasible architecture can never be chosen, and after some tries we take what there is.
    const feasible = violation(costWithLatency(run, net, genotype), run.constraints) === 0;
    if (known.has(key) || (!feasible && tries < 50 * count)) continue;
    known.add(key);
    wanted.push(genotype);
  }
  return wanted;
}

/** What the constraints bound. */
export function costWithLatency(run: Run, net: Pick<Supernet, 'space' | 'outputs'>, genotype: Genotype) {
  const { latency } = run.state;
  return {
    ...cost(net.space, genotype, net.outputs),
    ...(latency && { latency_ms: latencyOf(latency, net, genotype) }),
  };
}

/** Evaluates architectures with the weights as they are now; a known one's record is replaced. `ahead`: see judgeTogether. */
export async function judge(
  run: Run,
  net: Supernet,
  genotypes: readonly Genotype[],
  stage: 'transfer' | 'search',
  exam: Exam = fullExam(run.data, run.seed),
  ahead: readonly Genotype[] = [],
): Promise<void> {
  const { data, task, state } = run;
  const images = imagesOf(exam);
  const known = state.archive.length;
  let done = 0;
  const judgement: Judgement = {
    ...{ net, genotypes, data, task, exam },
    breathe: () => run.breathe(),
    judged(genotype, { quality }) {
      done += 1;
      run.best = Math.max(run.best ?? 0, quality);
      const { macs } = cost(net.space, genotype, net.outputs);
      run.worked(stage, macs * images, images, `judging architectures, ${known + done} so far`);
    },
  };
  const results = await judgeTogether(run, judgement, ahead);
  const judged = genotypes.flatMap((genotype, i) => {
    const evaluation = results[i];
    return evaluation ? [record(run, net, genotype, evaluation)] : [];
  });
  recordJudged(
    state,
    judged.map(({ made }) => made.quality),
  );
  rescore(task, state.archive);
  for (const record of state.archive) record.score = -record.loss;
  run.ports.events(
    judged.map(({ known: replaced, made }) => {
      const { key: genotype, macs, params, score, metrics } = made;
      return { type: 'candidate', data: { genotype, macs, params, score, ...metrics, replaced } };
    }),
  );
  reportCandidates(run);
}

/** Enters an evaluation into the archive. `known`: another one of the architecture was replaced. */
function record(run: Run, net: Supernet, genotype: Genotype, evaluation: Evaluation) {
  const { state } = run;
  const { macs, params } = cost(net.space, genotype, net.outputs);
  const made: EvaluationRecord = {
    key: canonical(genotype),
    genotype,
    score: -evaluation.loss,
    ...evaluation,
    macs,
    params,
    latency_ms: state.latency && latencyOf(state.latency, net, genotype),
    version: state.version,
  };
  const at = state.archive.findIndex((other) => other.key === made.key);
  if (at >= 0) state.archive[at] = made;
  else state.archive.push(made);
  return { made, known: at >= 0 };
}

/** The best third of the archive, at least 20 (or all there are): what the distribution moves towards. */
function bestGenotypes(archive: readonly EvaluationRecord[]): Genotype[] {
  const sorted = [...archive].sort((a, b) => b.score - a.score || (a.key < b.key ? -1 : 1));
  // With few records "the best 20" would be all of them and steer nowhere.
  const count = Math.max(Math.min(20, Math.ceil(archive.length / 2)), Math.ceil(archive.length / 3));
  return sorted.slice(0, count).map((record) => record.genotype);
}

/** Publishes the archive. */
export const reportCandidates = (run: Run): void => run.ports.candidates(candidatesOf(run));

/** The archive with its Pareto front and, once there is one, the chosen architecture. */
export function candidatesOf(run: Run): Candidate[] {
  const { archive, selected } = run.state;
  const front = new Set(paretoFront(archive.map((r) => [-r.score, r[run.axis] ?? 0] as [number, number])));
  const chosen = selected ? canonical(selected) : null;
  return archive.map((record, i): Candidate => ({
    genotype: record.genotype,
    macs: record.macs,
    params: record.params,
    latency_ms: record.latency_ms,
    score: record.score,
    metrics: record.metrics,
    pareto: front.has(i),
    selected: record.key === chosen,
  }));
}
