import { largest } from '@ntaa/nas';
import type { Supernet } from '@ntaa/supernet';
import { calibrationSubset, evaluateCandidate, fullExam } from './evaluate.js';
import type { Run } from './run.js';

/** So much better on training images is everybody; for each further point, so many points of mixing. */
const GAP = { usual: 0.08, slope: 8 } as const;

/**
 * How often training shall mix images with each other from now on, 0..1: the more, the better the largest architecture
 * knows its training images, not augmented, than those it was not trained on. Mixtures keep large networks from
 * learning images by heart, without which a search finds no use for them; where there is no danger of that (few passes,
 * easy images) they only make learning harder. What it is worth: docs/LOG.md, 2026-11-27.
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
