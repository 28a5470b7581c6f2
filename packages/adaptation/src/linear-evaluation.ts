/**
 * The paradigm of linear evaluation: the supernet's weights stay as they are, and every architecture is judged by a
 * closed-form probe on its features. Searching costs forward passes alone. Where answers are the features themselves
 * (re-identification) there is nothing to fit, and they are judged as they are.
 */
import type { AdaptRequest, Genotype, SearchSpace } from '@ntaa/contracts';
import { cost, Distribution, largest, PROBE, probeImages } from '@ntaa/nas';
import { extract, type NamedTensors, type Supernet } from '@ntaa/supernet';
import {
  calibrationSubset,
  FINAL_CALIBRATION,
  featuresOf,
  fullExam,
  imagesOf,
  rescore,
  type Evaluation,
  type Exam,
} from './evaluate.js';
import type { Phase } from './checkpoint.js';
import { judgeTogether } from './fan-out.js';
import { finetuningImages } from './finetune.js';
import { writeClassifier } from './head.js';
import { chooseProbe, fitProbe } from './probe.js';
import type { Run } from './run.js';
import { distinct, promising, propose } from './search.js';
import { labelled } from './target-data.js';
import { costWithLatency, draw, judge, reportCandidates } from './transfer.js';

export const isLinear = ({ paradigm }: AdaptRequest): boolean => paradigm === 'linear-evaluation';

/** What each phase of a job does; it sets the next. */
export type Phases = Partial<Record<Phase, () => Promise<void>>>;

/** `supernet`: makes the network whose weights stay as they are, `fixed`: the architecture of somebody who does not search. */
export function linearPhases(
  run: Run,
  { supernet, fixed, baseline }: { supernet: () => Supernet; fixed: Genotype; baseline: boolean },
): Phases {
  const { state, weights } = run;
  const phase = (work: (net: Supernet) => Promise<Phase>) => async (): Promise<void> => {
    const net = supernet();
    try {
      state.phase = await work(net);
    } finally {
      net.dispose();
    }
  };
  const keep = async (role: string, net: Supernet, genotype: Genotype): Promise<void> => {
    const single = await probed(run, net, genotype);
    weights.set(role, single.tensors());
    single.dispose();
  };
  return {
    search: phase(async (net) => {
      run.enter('search', 'searching architectures');
      await probeSearch(run, net);
      await probeFinalists(run, net, fixed);
      run.enter('finetune', 'fitting classifiers in closed form');
      return 'finetune';
    }),
    finetune: phase(async (net) => {
      await keep('net', net, state.selected!);
      weights.set('supernet', await probedSupernet(run, net));
      return baseline && state.cut !== 'user' ? 'baseline' : 'evaluate';
    }),
    baseline: phase(async (net) => {
      await keep('baseline', net, fixed);
      return 'evaluate';
    }),
  };
}

/** Training images that a finished probe is fitted to, at most: more change little, and every one costs. */
const MOST_IMAGES = 10_000;

function searchExam({ data, seed, task }: Run): Exam {
  const { train, validation } = data.splits;
  const domains = data.unlabelled ? 2 : 1;
  const known = labelled(data, train);
  return {
    calibration: calibrationSubset(train, seed, PROBE.calibration * domains),
    // A retrieval protocol needs all of its images.
    validation:
      task.reads === 'features'
        ? validation
        : calibrationSubset(validation, seed, PROBE.validation * domains).sort((a, b) => a - b),
    ...(task.reads === 'logits' && { probe: calibrationSubset(known, seed, probeImages(known.length)) }),
  };
}

/** That of the finalists: as many images as the finished probe will see. */
const finalExam = ({ data, seed, task }: Run): Exam => ({
  ...fullExam(data, seed),
  ...(task.reads === 'logits' && { probe: fittedTo(labelled(data, data.splits.train), seed) }),
});

const fittedTo = (indices: readonly number[], seed: number): number[] =>
  calibrationSubset(indices, seed, MOST_IMAGES);

/**
 * Judges random architectures, then those that the predictor proposes, in rounds that are checkpointed: the step counts
 * them. Stops when the clock has half of its time left.
 */
async function probeSearch(run: Run, net: Supernet): Promise<void> {
  const { state } = run;
  const { plan } = state;
  const exam = searchExam(run);
  const uniform = Distribution.uniform(net.space);
  const total = plan.rounds * plan.perRound + plan.searchCandidates;
  const end = plan.deadline === null ? null : (state.phaseStarted + plan.deadline) / 2;
  const size = (round: number): number => Math.min(plan.perRound, total - round * plan.perRound);
  while (state.step * plan.perRound < total) {
    const count = size(state.step);
    const found =
      state.step < plan.rounds
        ? draw(run, net, uniform, state.step, count)
        : propose(run, net, state.step, count);
    const next = state.step + 1;
    // Those that are drawn are known before this round's are judged.
    const ahead = next < plan.rounds ? draw(run, net, uniform, next, size(next), found) : [];
    await judge(run, net, found, 'search', exam, ahead);
    state.step += 1;
    if (state.cut === 'user') return;
    if (run.due) await run.save();
    if (run.secondsLeft(end) <= 0) {
      state.cut = 'clock';
      // What was offered of the next round would keep helpers from the finalists.
      await run.ports.elsewhere?.withdraw();
      return;
    }
  }
}

/** Judges the best once more, on everything, and chooses one. `fixed` is among them where it was judged. */
async function probeFinalists(run: Run, net: Supernet, fixed: Genotype): Promise<void> {
  const { state, data, task } = run;
  const { best, roomy, usual } = promising(run, fixed);
  const found = distinct([best, roomy, usual]).slice(0, PROBE.finalists);
  const exam = finalExam(run);
  const results: (Evaluation | null)[] =
    state.cut === 'user' || found.length < 2
      ? []
      : await judgeTogether(run, {
          ...{ net, genotypes: found, data, task, exam },
          breathe: () => run.breathe(),
          judged: (genotype) => {
            const { macs } = cost(net.space, genotype, net.outputs);
            const images = imagesOf(exam);
            run.worked('search', macs * images, images, 'judging finalists on all images');
          },
        });
  const finalists = found.flatMap((genotype, i) => {
    const price = costWithLatency(run, net, genotype)[run.axis] ?? 0;
    return results[i] ? [{ ...results[i], genotype, price }] : [];
  });
  rescore(task, finalists);
  state.selected = finalists.length > 0 ? winner(finalists) : found[0]!;
  reportCandidates(run);
}

/** Losses closer than this, in standard errors, are a tie. */
const TIE = 0.1;

/** The one with the least loss, or a cheaper one that is as good. Nothing will be trained: a finalist is what it will be. */
export function winner(
  finalists: readonly (Pick<Evaluation, 'loss' | 'error'> & { genotype: Genotype; price: number })[],
): Genotype {
  const best = finalists.reduce((a, b) => (b.loss < a.loss ? b : a));
  const asGood = finalists.filter(({ loss }) => loss <= best.loss + TIE * best.error);
  return asGood.reduce((a, b) => (b.price < a.price ? b : a)).genotype;
}

/**
 * An architecture with the supernet's weights and, where the task has one, a classifier fitted to training and validation
 * images, as they were when its penalty was chosen on the latter. Caller disposes.
 */
async function probed(run: Run, net: Supernet, genotype: Genotype): Promise<Supernet> {
  const { data, seed, task } = run;
  await run.breathe();
  const single = extract(net, genotype);
  if (task.reads === 'features') return single;
  const only = largest(single.space);
  const train = fittedTo(labelled(data, data.splits.train), seed);
  const validation = fittedTo(labelled(data, data.splits.validation), seed);
  const images = finetuningImages(run);
  // What the delivered network is calibrated on.
  const calibration = calibrationSubset(images, seed, FINAL_CALIBRATION);
  const { features, bn } = featuresOf(single, only, data, [...train, ...validation], calibration);
  bn.dispose();
  const { choice } = chooseProbe(task, net.outputs, features(train), features(validation));
  // With two domains, validation images of the source stay: they are what the result is measured on.
  const all = data.unlabelled ? train : [...train, ...validation];
  writeClassifier(single, fitProbe(task, net.outputs, features(all), choice));
  const { macs } = cost(net.space, genotype, net.outputs);
  const seen = calibration.length + train.length + validation.length;
  run.worked('finetune', macs * seen, seen, 'fitting classifiers in closed form');
  return single;
}

/** The whole supernet with the classifier of its largest architecture. */
async function probedSupernet(run: Run, net: Supernet): Promise<NamedTensors> {
  const top = await probed(run, net, largest(net.space));
  const tensors = net.tensors();
  for (const name of ['classifier.weight', 'classifier.bias']) tensors.set(name, top.tensors().get(name)!);
  top.dispose();
  return tensors;
}

/** Work by phase, in multiply-accumulates of passes, as `Run.worked` counts it. */
export function probeWork(
  run: Run,
  space: SearchSpace,
  macs: (genotype: Genotype) => number,
): Record<Exclude<Phase, 'evaluate'>, number> {
  const { plan } = run.state;
  const typical = 0.5 * macs(largest(space));
  const { train, validation } = run.data.splits;
  const fitted = Math.min(FINAL_CALIBRATION, train.length) + train.length + validation.length;
  return {
    transfer: 0,
    search:
      typical * imagesOf(searchExam(run)) * (plan.rounds * plan.perRound + plan.searchCandidates) +
      typical * imagesOf(finalExam(run)) * PROBE.finalists,
    finetune: (typical + macs(largest(space))) * fitted,
    baseline: typical * fitted,
  };
}
