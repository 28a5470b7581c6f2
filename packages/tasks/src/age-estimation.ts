import { JobError, type AgeMetrics } from '@ntaa/contracts';
import { AGE_BINS, meanInterval, wilsonInterval } from '@ntaa/nas';
import type { Loss } from '@ntaa/supernet';
import { softmaxRows } from './softmax.js';
import type { Affine, Task, Truth } from './task.js';

/** Standard deviation of the distribution that stands for an age, years. */
const SPREAD = 2;
/** Weights of the mean and the variance term (Pan et al., CVPR 2018, less of both: they serve the distribution). */
const MEAN_WEIGHT = 0.1;
const VARIANCE_WEIGHT = 0.02;
/** Beyond this error the mean term grows linearly: a wrong guess at the start must not drown everything. */
const FAR = 5;
/** Errors up to so many years count for the cumulative score. */
const CLOSE = 5;
const DECADE = 10;

/**
 * Bins 0 to 100 years: label distribution N(y, 2) by KL divergence, plus mean and variance terms; the answer is the
 * expectation. Fitness: minus the mean absolute error.
 */
export const ageEstimation = {
  name: 'age-estimation',
  output: 'age',
  delivery: 'expectation',
  reads: 'logits',
  // Figures are of drawn faces (docs/LOG.md). How grey hair is, and how pale a face, tells its age: as their colours are, 8 to
  // 18% better than with half the usual changes, also where each face has a light of its own. Crisp views were 9 to 22% better;
  // faces come cropped and upright, so shifts and mirrors are usual for ages.
  augmentation: { flip: true, color: 0, crisp: 1 },
  // An answer that is a number shows the noise of a batch's statistics, a class hardly: 4 to 21% better.
  settles: 0.5,

  stratum: ({ age }) => (age === undefined ? null : Math.floor(age / DECADE)),

  targets(samples, _, splits) {
    const labelOf = Float32Array.from(samples, ({ age }) => age ?? NaN);
    const ages = splits.train.map((i) => labelOf[i]!).sort((a, b) => a - b);
    if (ages.length === 0 || ages[0] === ages.at(-1))
      throw new JobError('degenerate-target', `all training images have the age ${ages[0]}`);
    return { labels: [], labelOf, guess: ages[ages.length >> 1]! };
  },

  headTarget: distribution,
  classifierOf: normalAround,

  objective({ labels, outputs }) {
    const targets = new Float32Array(labels.length * outputs);
    const row = new Float64Array(outputs);
    labels.forEach((age, i) => {
      distribution(age, row);
      targets.set(row, i * outputs);
    });
    return meanVariance(labels, targets, outputs);
  },

  judge(predictions, truth) {
    const losses = errorsOf(predictions, truth);
    const mae = losses.reduce((sum, value) => sum + value, 0) / losses.length;
    const cs5 = losses.filter((error) => error <= CLOSE).length / losses.length;
    return { losses, quality: cs5, summary: { mae, cs5 } };
  },

  metrics(predictions, truth): AgeMetrics {
    const errors = errorsOf(predictions, truth);
    const n = errors.length;
    const close = errors.filter((error) => error <= CLOSE).length;
    const mean = (values: Float32Array) => values.reduce((sum, value) => sum + value, 0) / n;
    return {
      mae: mean(errors),
      mae_interval: meanInterval(errors),
      cs5: close / n,
      cs5_interval: wilsonInterval(close, n),
      constant_mae: mean(truth.labels.map((age) => Math.abs(age - truth.guess!))),
      images: n,
    };
  },

  hits(predictions, truth) {
    const errors = errorsOf(predictions, truth);
    return { right: Array.from(errors, (error) => error <= CLOSE), errors };
  },
} satisfies Task;

/** N(age, SPREAD) over the bins, normalised; ages beyond the last bin count as it. */
function distribution(age: number, row: Float64Array): void {
  const centre = Math.min(age, AGE_BINS - 1);
  let sum = 0;
  row.forEach((_, k) => (sum += row[k] = Math.exp(-((k - centre) ** 2) / (2 * SPREAD ** 2))));
  row.forEach((value, k) => (row[k] = value / sum));
}

/**
 * Softmax over bins k of (k - c)(y - c) / s^2 - (k - c)^2 / 2s^2 is N(y, s) on the bins, and y its expectation, but for
 * what lies outside of them. It is linear in y, so that it is a classifier on whatever y is linear in. c: only for precision.
 */
function normalAround({ weight, bias }: Affine, outputs: number): Affine {
  const centre = (outputs - 1) / 2;
  const slope = (k: number) => (k - centre) / SPREAD ** 2;
  return {
    weight: Float64Array.from(
      { length: weight.length * outputs },
      (_, i) => weight[Math.floor(i / outputs)]! * slope(i % outputs),
    ),
    bias: Float64Array.from(
      { length: outputs },
      (_, k) => slope(k) * (bias[0]! - centre) - (slope(k) * (k - centre)) / 2,
    ),
  };
}

const meanVariance =
  (ages: Float32Array, targets: Float32Array, outputs: number): Loss =>
  ({ n, logits }) => {
    const p = softmaxRows(logits, outputs);
    const gradient = new Float32Array(logits.length);
    let loss = 0;
    for (let i = 0; i < n; i++) {
      const row = i * outputs;
      let [mean, squares] = [0, 0];
      for (let k = 0; k < outputs; k++) {
        mean += k * p[row + k]!;
        squares += k * k * p[row + k]!;
      }
      const variance = squares - mean ** 2;
      const miss = mean - Math.min(ages[i]!, outputs - 1);
      const far = Math.abs(miss) > FAR;
      loss += MEAN_WEIGHT * (far ? FAR * (Math.abs(miss) - FAR / 2) : miss ** 2 / 2);
      loss += VARIANCE_WEIGHT * variance;
      const pull = MEAN_WEIGHT * Math.max(-FAR, Math.min(FAR, miss));
      for (let k = 0; k < outputs; k++) {
        const [q, t] = [p[row + k]!, targets[row + k]!];
        if (t > 0) loss += t * (Math.log(t) - Math.log(Math.max(q, 1e-30)));
        const away = k - mean;
        gradient[row + k] = (q - t + q * (pull * away + VARIANCE_WEIGHT * (away ** 2 - variance))) / n;
      }
    }
    return { loss: loss / n, logits: gradient };
  };

/** Absolute errors of the expectations, years. */
function errorsOf(predictions: Float32Array, { labels }: Truth): Float32Array {
  const outputs = predictions.length / labels.length;
  const p = softmaxRows(predictions, outputs);
  return labels.map((age, i) => {
    let mean = 0;
    for (let k = 0; k < outputs; k++) mean += k * p[i * outputs + k]!;
    return Math.abs(mean - age);
  });
}
