import { largest } from '@ntaa/nas';
import type { Supernet } from '@ntaa/supernet';
import { calibrationSubset, evaluateCandidate, fullExam } from './evaluate.js';
import type { Run } from './run.js';

/** Points of accuracy between training and validation images that are everybody's, and for each beyond them this share of mixtures. */
const GAP = { usual: 0.08, slope: 5 } as const;

/**
 * How often finetuning shall mix images with each other, 0..1: the more, the better the largest architecture knows its
 * training images, not augmented, than those it was not trained on. Mixtures keep large networks from learning images by heart, and
 * where there is no danger of that (few passes, easy images) they only make learning harder; so this is read from the
 * joint transfer, which ends before finetuning and its race begin. What it is worth: docs/LOG.md.
 */
export function mixingFor(run: Run, net: Supernet): number {
  const { data, task, seed } = run;
  if (!task.mixes) return 0;
  const exam = fullExam(data, seed);
  const { train, validation } = data.splits;
  const quality = (images: readonly number[]): number =>
    evaluateCandidate(net, largest(net.space), data, task, { ...exam, validation: images }).quality;
  const gap = quality(calibrationSubset(train, seed, validation.length)) - quality(validation);
  return Math.min(1, Math.max(0, GAP.slope * (gap - GAP.usual)));
}
