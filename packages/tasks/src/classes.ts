/** What tasks share that tell classes apart. */
import type { ClassificationMetrics } from '@ntaa/contracts';
import { wilsonInterval } from '@ntaa/nas';
import { argmax, logSumExp, softmaxRows } from './softmax.js';
import type { Truth } from './task.js';

const SMOOTHING = 0.1;
/** Larger confusion matrices are not kept: nobody reads them. */
const LARGEST_CONFUSION = 100;
const CALIBRATION_BINS = 15;

/** Probabilities with label smoothing: [n * outputs]. */
export function smoothed(labels: Float32Array, outputs: number, weights?: readonly number[]): Float32Array {
  const out = new Float32Array(labels.length * outputs).fill(SMOOTHING / outputs);
  labels.forEach((label, i) => {
    out[i * outputs + label]! += 1 - SMOOTHING;
  });
  if (weights) for (let i = 0; i < out.length; i++) out[i]! *= weights[labels[Math.floor(i / outputs)]!]!;
  return out;
}

export function oneHot(label: number, row: Float64Array): void {
  row.fill(0);
  row[label] = 1;
}

const rowsOf = (predictions: Float32Array, n: number) => {
  const outputs = predictions.length / n;
  return (i: number) => predictions.subarray(i * outputs, (i + 1) * outputs);
};

/** Cross entropy of each image on its true label, nats; times the weight of its class where classes have one. */
export function crossEntropies(
  predictions: Float32Array,
  { labels, classWeights }: Pick<Truth, 'labels' | 'classWeights'>,
): Float32Array {
  const row = rowsOf(predictions, labels.length);
  return labels.map((label, i) => (logSumExp(row(i)) - row(i)[label]!) * (classWeights?.[label] ?? 1));
}

/** Place of the true label among the answers, from 0; ties count against us: a constant network scores nothing. */
function ranksOf(predictions: Float32Array, labels: Float32Array): Int32Array {
  const row = rowsOf(predictions, labels.length);
  return Int32Array.from(labels, (label, i) => {
    const values = row(i);
    return values.reduce((count, value, k) => count + Number(k !== label && !(value < values[label]!)), 0);
  });
}

export function classificationMetrics(predictions: Float32Array, { labels }: Truth): ClassificationMetrics {
  const n = labels.length;
  const outputs = predictions.length / n;
  const ranks = ranksOf(predictions, labels);
  const losses = crossEntropies(predictions, { labels });
  const top1 = ranks.filter((rank) => rank < 1).length;
  const hits = new Float64Array(outputs);
  const seen = new Float64Array(outputs);
  labels.forEach((label, i) => {
    seen[label]! += 1;
    hits[label]! += Number(ranks[i] === 0);
  });
  const calibration = calibrationOf(predictions, labels);
  const present = [...seen.keys()].filter((k) => seen[k]! > 0);
  return {
    top1: top1 / n,
    top1_interval: wilsonInterval(top1, n),
    top5: ranks.filter((rank) => rank < 5).length / n,
    balanced_accuracy: present.reduce((sum, k) => sum + hits[k]! / seen[k]!, 0) / present.length,
    loss: losses.reduce((sum, l) => sum + l, 0) / n,
    ece: calibrationError(calibration, n),
    calibration,
    ...(outputs <= LARGEST_CONFUSION && { confusion: confusionOf(predictions, labels) }),
    images: n,
  };
}

export const rightAnswers = (predictions: Float32Array, { labels }: Truth): boolean[] =>
  Array.from(ranksOf(predictions, labels), (rank) => rank === 0);

function confusionOf(predictions: Float32Array, labels: Float32Array): number[][] {
  const row = rowsOf(predictions, labels.length);
  const outputs = predictions.length / labels.length;
  const counts = Array.from({ length: outputs }, () => new Array<number>(outputs).fill(0));
  labels.forEach((label, i) => (counts[label]![argmax(row(i))]! += 1));
  return counts;
}

/** Answers in bins of equal width over their confidence; only bins that hold some. */
function calibrationOf(predictions: Float32Array, labels: Float32Array) {
  const n = labels.length;
  const outputs = predictions.length / n;
  const row = rowsOf(softmaxRows(predictions, outputs), n);
  const bins = Array.from({ length: CALIBRATION_BINS }, () => ({ images: 0, confidence: 0, right: 0 }));
  labels.forEach((label, i) => {
    const answer = argmax(row(i));
    const confidence = row(i)[answer]!;
    const bin = bins[Math.min(CALIBRATION_BINS - 1, Math.floor(confidence * CALIBRATION_BINS))];
    if (!bin) return; // a broken network's confidence is no number
    bin.images += 1;
    bin.confidence += confidence;
    bin.right += Number(answer === label);
  });
  return bins
    .filter(({ images }) => images > 0)
    .map(({ images, confidence, right }) => ({
      images,
      confidence: Math.min(1, confidence / images),
      accuracy: right / images,
    }));
}

/** Expected calibration error (Guo et al., ICML 2017) of n images. */
const calibrationError = (bins: ReturnType<typeof calibrationOf>, n: number): number =>
  bins.reduce((sum, { images, confidence, accuracy }) => sum + images * Math.abs(confidence - accuracy), 0) /
  n;
