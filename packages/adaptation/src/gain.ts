/**
 * Where a job's gain comes from, measured while there are still validation images that no network was trained on: the
 * architecture of weights-only adaptation and the chosen one, each with the source's weights and with those of the
 * joint transfer. At most four evaluations and two fits of a classifier; nothing is decided by them.
 */
import type { Candidate, Gain, Genotype, LearningCurves, SearchSpace, TaskName } from '@ntaa/contracts';
import { canonical, cost, FIRST_PART } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { Supernet, type NamedTensors } from '@ntaa/supernet';
import { curvesOf } from './curves.js';
import { calibrationSubset, evaluateCandidate, fullExam } from './evaluate.js';
import { initialiseHead } from './head.js';
import type { Run } from './run.js';
import { labelled } from './target-data.js';
import { candidatesOf } from './transfer.js';

/** Training images that a classifier on the source's features is fitted to, at most. */
const FITTED = 2000;
/** Of the time that is left where a clock bounds the job. */
const SHARE_OF_TIME = 0.03;

interface GainInput {
  space: SearchSpace;
  outputs: number;
  /** Weights of the source supernet. */
  source: NamedTensors;
  /** The architecture of weights-only adaptation. */
  reference: Genotype;
  /** Quality of the chosen one after the first part of its finetuning. */
  finetuned: number;
}

/** What a report shows beside the results. */
export interface Evidence {
  candidates: Candidate[];
  /** null: the job was finetuned with a version that did not measure it. */
  gain: Gain | null;
  curves: LearningCurves;
}

export const evidenceOf = (run: Run): Evidence => ({
  candidates: candidatesOf(run),
  gain: run.state.gain,
  curves: curvesOf(run.state),
});

/** What the clock leaves no time for, or the user no patience, stays null. The architecture has been chosen. */
export async function measureGain(run: Run, input: GainInput): Promise<Gain> {
  const { data, task, seed, state } = run;
  const { space, outputs, reference } = input;
  const { train, validation } = data.splits;
  const exam = fullExam(data, seed);
  const fitted = calibrationSubset(train, seed, FITTED);
  const chosen = state.selected!;
  const began = run.ports.now();
  const time = 1000 * SHARE_OF_TIME * run.secondsLeft(state.plan.deadline);

  const measure = async (genotype: Genotype, fit: boolean): Promise<number | null> => {
    if (state.cut === 'user' || run.ports.now() - began >= time || (await run.breathe())) return null;
    const weights = fit ? input.source : run.weights.get('supernet')!;
    const net = Supernet.load(space, weights, outputs, new Rng(seed, 'head'));
    try {
      if (fit) initialiseHead(net, genotype, data, task, fitted, exam.calibration);
      return evaluateCandidate(net, genotype, data, task, exam).quality;
    } finally {
      net.dispose();
    }
  };
  const both = async (fit: boolean) => ({
    reference: await measure(reference, fit),
    chosen: await measure(chosen, fit),
  });
  const same = canonical(chosen) === canonical(reference);
  const transferred_weights = await both(false);
  return {
    metric: QUALITY[task.name as TaskName],
    // With two domains quality is that on the labelled one.
    images: labelled(data, validation).length,
    reference: { genotype: reference, macs: cost(space, reference, outputs).macs },
    source_weights: await both(true),
    transferred_weights,
    finetuned: input.finetuned,
    finetuned_share: FIRST_PART,
    ...((state.choice || same) && { choice: state.choice }),
  };
}

/** What each task calls quality. */
const QUALITY: Readonly<Record<TaskName, string>> = {
  classification: 'top1',
  'gender-recognition': 'balanced_accuracy',
  'age-estimation': 'cs5',
  're-identification': 'map',
  'domain-adaptation': 'source_top1',
};
