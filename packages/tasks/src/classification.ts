import { classificationMetrics, crossEntropies, oneHot, rightAnswers, smoothed } from './classes.js';
import type { Task } from './task.js';

/** Linear head, cross-entropy with label smoothing 0.1; fitness: minus the validation loss. */
export const classification = {
  name: 'classification',
  output: 'logits',
  delivery: 'logits',
  reads: 'logits',
  // Half of the views keep their pixels: docs/LOG.md, 2026-11-27.
  augmentation: { crisp: 0.5 },
  mixes: true,

  stratum: ({ label }) => (label < 0 ? null : label),
  targets: (samples, labels) => ({ labels, labelOf: Float32Array.from(samples, ({ label }) => label) }),
  headTarget: oneHot,
  objective: ({ labels, outputs }) => smoothed(labels, outputs),

  judge(predictions, truth) {
    const { top1, loss } = classificationMetrics(predictions, truth);
    return { losses: crossEntropies(predictions, truth), quality: top1, summary: { top1, loss } };
  },
  metrics: classificationMetrics,
  hits: (predictions, truth) => ({ right: rightAnswers(predictions, truth) }),
} satisfies Task;
