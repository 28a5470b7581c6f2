import type { AdaptationMetrics } from '@ntaa/contracts';
import type { Loss } from '@ntaa/supernet';
import { classificationMetrics, crossEntropies, oneHot, smoothed } from './classes.js';
import { entropy, softmaxRows } from './softmax.js';
import type { Task, Truth } from './task.js';

/** Minimum class confusion (Jin et al., ECCV 2020). */
const TEMPERATURE = 2.5;
/**
 * Its weight over the training, [progress, weight], straight in between. It grows, because confusion means little before classes
 * are known, and falls, because it does not care which class is which: at full weight a long training loses accuracy
 * again, with answers as sure and as evenly spread as before (docs/LOG.md, 2026-11-27).
 */
const WEIGHTS = [
  [0, 0],
  [0.2, 1],
  [0.4, 0.3],
  [1, 0.3],
] as const;
/** An architecture whose accuracy on the source falls by more than this below the best is not chosen. */
const FALL = 0.03;
/** Soft neighbourhood density (Saito et al., ICCV 2021). */
const NEIGHBOURS = { temperature: 0.05, images: 600 };

/**
 * Labelled source, unlabelled target: cross-entropy on the source and minimum class confusion on the target. What is
 * judged without labels of the target is ranked: accuracy on source validation images, information maximisation and
 * soft neighbourhood density; fitness is the mean rank. Labels of the target are NaN everywhere here.
 */
export const domainAdaptation = {
  name: 'domain-adaptation',
  output: 'logits',
  delivery: 'logits',
  reads: 'logits',
  augmentation: {},
  leastBatch: 64,

  stratum: ({ label }) => (label < 0 ? null : label),
  targets: (samples, labels) => ({ labels, labelOf: Float32Array.from(samples, ({ label }) => label) }),
  headTarget: oneHot,

  objective: ({ labels, outputs, unlabelled, progress }) =>
    unlabelled ? minimumClassConfusion(outputs, weightAt(progress)) : smoothed(labels, outputs),

  judge(predictions, truth) {
    const { source, target, outputs } = byDomain(predictions, truth);
    const { top1 } = classificationMetrics(source.predictions, source.truth);
    const p = softmaxRows(target.predictions, outputs);
    const summary = {
      source_top1: top1,
      information: informationOf(p, outputs),
      density: densityOf(p, outputs),
    };
    return { losses: crossEntropies(source.predictions, source.truth), quality: top1, summary };
  },

  rescore(records) {
    const best = Math.max(...records.map(({ metrics }) => metrics['source_top1']!));
    const ranks = ['source_top1', 'information', 'density'].map((name) =>
      rankShares(records.map(({ metrics }) => metrics[name]!)),
    );
    return records.map(({ metrics }, i) => {
      const mean = ranks.reduce((sum, shares) => sum + shares[i]!, 0) / ranks.length;
      return metrics['source_top1']! < best - FALL ? mean - 1 : mean;
    });
  },

  metrics(predictions, truth): AdaptationMetrics {
    const { source, target, outputs } = byDomain(predictions, truth);
    const n = target.predictions.length / outputs;
    const p = softmaxRows(target.predictions, outputs);
    let confidence = 0;
    for (let i = 0; i < n; i++) confidence += Math.max(...p.subarray(i * outputs, (i + 1) * outputs)) / n;
    const known = truth.heldOut
      ? Array.from(truth.heldOut.keys()).filter((i) => truth.heldOut![i]! >= 0)
      : [];
    const rows = known.flatMap((i) => [...target.predictions.subarray(i * outputs, (i + 1) * outputs)]);
    const labels = Float32Array.from(known, (i) => truth.heldOut![i]!);
    return {
      source_top1: classificationMetrics(source.predictions, source.truth).top1,
      confidence: Math.min(1, confidence),
      information: informationOf(p, outputs),
      oracle: known.length > 0 ? classificationMetrics(Float32Array.from(rows), { labels }) : null,
      images: n,
    };
  },
} satisfies Task;

/** Images with a label are of the source. */
function byDomain(predictions: Float32Array, { labels }: Truth) {
  const outputs = predictions.length / labels.length;
  const part = (wanted: boolean) => {
    const rows = Array.from(labels.keys()).filter((i) => !Number.isNaN(labels[i]!) === wanted);
    const out = new Float32Array(rows.length * outputs);
    rows.forEach((row, i) => out.set(predictions.subarray(row * outputs, (row + 1) * outputs), i * outputs));
    return { predictions: out, truth: { labels: Float32Array.from(rows, (row) => labels[row]!) } };
  };
  return { source: part(true), target: part(false), outputs };
}

function weightAt(progress: number): number {
  const next = Math.max(
    1,
    WEIGHTS.findIndex(([from]) => progress <= from),
  );
  const [[from, before], [to, after]] = [WEIGHTS[next - 1]!, WEIGHTS[next]!];
  return before + ((after - before) * (progress - from)) / (to - from);
}

/**
 * How much classes are confused with each other in softened answers, weighted towards confident images; 0: not at all.
 * The weights count as constants.
 */
const minimumClassConfusion =
  (outputs: number, weight: number): Loss =>
  ({ n, logits }) => {
    const p = softmaxRows(logits, outputs, TEMPERATURE);
    const row = (i: number) => p.subarray(i * outputs, (i + 1) * outputs);
    const certainty = Float64Array.from({ length: n }, (_, i) => 1 + Math.exp(-entropy(row(i))));
    const total = certainty.reduce((sum, value) => sum + value, 0);
    const [mass, own] = [new Float64Array(outputs), new Float64Array(outputs)];
    for (let i = 0; i < n; i++)
      for (let k = 0; k < outputs; k++) {
        const w = (n * certainty[i]!) / total;
        mass[k]! += w * row(i)[k]!;
        own[k]! += w * row(i)[k]! ** 2;
      }
    // Rows of the confusion matrix sum to `mass`, because probabilities of an image sum to 1.
    const share = own.map((value, k) => value / Math.max(mass[k]!, 1e-12));
    const loss = 1 - share.reduce((sum, value) => sum + value, 0) / outputs;
    const gradient = new Float32Array(logits.length);
    for (let i = 0; i < n; i++) {
      const w = (n * certainty[i]!) / total;
      const q = row(i);
      const slope = Float64Array.from(q, (value, k) => {
        const m = Math.max(mass[k]!, 1e-12);
        return (-w * (2 * value - share[k]!)) / m / outputs;
      });
      const mean = slope.reduce((sum, value, k) => sum + value * q[k]!, 0);
      slope.forEach((value, k) => {
        gradient[i * outputs + k] = (weight * q[k]! * (value - mean)) / TEMPERATURE;
      });
    }
    return { loss: weight * loss, logits: gradient };
  };

/** Entropy of the mean answer less the mean entropy, nats: answers are certain, and differ. */
function informationOf(p: Float32Array, outputs: number): number {
  const n = p.length / outputs;
  const mean = new Float32Array(outputs);
  let certain = 0;
  for (let i = 0; i < n; i++) {
    const row = p.subarray(i * outputs, (i + 1) * outputs);
    certain += entropy(row) / n;
    row.forEach((value, k) => (mean[k]! += value / n));
  }
  return entropy(mean) - certain;
}

/** Mean entropy of the likeness of answers to their neighbours': high when images lie in dense groups. */
function densityOf(p: Float32Array, outputs: number): number {
  const n = Math.min(NEIGHBOURS.images, p.length / outputs);
  const unit = p.slice(0, n * outputs);
  for (let i = 0; i < n; i++) {
    const row = unit.subarray(i * outputs, (i + 1) * outputs);
    const length = Math.hypot(...row) || 1;
    row.forEach((value, k) => (row[k] = value / length));
  }
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const likeness = new Float32Array(n - 1);
    for (let j = 0; j < n - 1; j++) {
      const other = j < i ? j : j + 1;
      for (let k = 0; k < outputs; k++) likeness[j]! += unit[i * outputs + k]! * unit[other * outputs + k]!;
    }
    sum += entropy(softmaxRows(likeness, n - 1, NEIGHBOURS.temperature));
  }
  return sum / n;
}

/** For each value the share of the others that it exceeds; ties count half. */
function rankShares(values: readonly number[]): number[] {
  if (values.length < 2) return values.map(() => 1);
  const below = (a: number, b: number) => (b < a ? 1 : b === a ? 0.5 : 0);
  return values.map((a) => (values.reduce((sum, b) => sum + below(a, b), 0) - 0.5) / (values.length - 1));
}
