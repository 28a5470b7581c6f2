import { JobError } from '@ntaa/contracts';
import { classificationMetrics, crossEntropies, oneHot, rightAnswers, smoothed } from './classes.js';
import type { Task } from './task.js';

/**
 * Cross-entropy in which every gender weighs the same, however many images it has; fitness: minus the class-balanced
 * validation loss. Quality is told apart by the dataset's other columns (see slices.ts).
 */
export const genderRecognition = {
  name: 'gender-recognition',
  output: 'logits',
  delivery: 'logits',
  reads: 'logits',
  // People are as they are in a mirror.
  augmentation: { flip: true },

  // One stratum for each word, whatever it is: numbered by its letters, so that it needs no table.
  stratum: ({ gender }) => (gender === undefined ? null : numberOf(gender)),

  targets(samples, _, splits) {
    const labels = [...new Set(samples.flatMap(({ gender }) => gender ?? []))].sort();
    const labelOf = Float32Array.from(samples, ({ gender }) => labels.indexOf(gender ?? ''));
    const counts = labels.map((_, k) => splits.train.filter((i) => labelOf[i] === k).length);
    const missing = labels.find((_, k) => counts[k] === 0);
    if (labels.length < 2 || missing !== undefined)
      throw new JobError(
        'degenerate-target',
        labels.length < 2
          ? `every image has the gender "${labels[0]}"`
          : `no training image has the gender "${missing}"`,
      );
    const classWeights = counts.map((count) => splits.train.length / (labels.length * count));
    return { labels, labelOf, classWeights };
  },

  headTarget: oneHot,
  objective: ({ labels, outputs, classWeights }) => smoothed(labels, outputs, classWeights),

  judge(predictions, truth) {
    const { balanced_accuracy, top1 } = classificationMetrics(predictions, truth);
    const losses = crossEntropies(predictions, truth);
    const loss = losses.reduce((sum, value) => sum + value, 0) / losses.length;
    return { losses, quality: balanced_accuracy, summary: { balanced_accuracy, top1, loss } };
  },
  metrics: classificationMetrics,
  hits: (predictions, truth) => ({ right: rightAnswers(predictions, truth) }),
} satisfies Task;

const numberOf = (word: string): number =>
  [...word].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)!) % 1_000_003, 7);
