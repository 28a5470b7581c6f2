import type { ClassificationMetrics } from '@ntaa/contracts';
import { wilsonInterval } from '@ntaa/nas';
import type { Task } from './task.js';

const SMOOTHING = 0.1;

/** Linear head, cross-entropy with label smoothing 0.1; fitness: minus the validation loss. */
export const classification: Task = {
  name: 'classification',
  output: 'logits',
  outputs: (labels) => labels.length,

  targets(labels, outputs) {
    const out = new Float32Array(labels.length * outputs).fill(SMOOTHING / outputs);
    labels.forEach((label, i) => {
      out[i * outputs + label]! += 1 - SMOOTHING;
    });
    return out;
  },

  losses(predictions, labels) {
    const outputs = predictions.length / labels.length;
    return Float32Array.from(labels, (label, i) => {
      const row = predictions.subarray(i * outputs, (i + 1) * outputs);
      return logSumExp(row) - row[label]!;
    });
  },

  metrics(predictions, labels, outputs): ClassificationMetrics {
    const n = labels.length;
    const hits = new Float64Array(outputs);
    const seen = new Float64Array(outputs);
    let top1 = 0;
    let top5 = 0;
    labels.forEach((label, i) => {
      const row = predictions.subarray(i * outputs, (i + 1) * outputs);
      // Rank of the true label; ties count against us, so that a constant network scores nothing.
      const better = row.reduce(
        (count, value, k) => count + Number(k !== label && !(value < row[label]!)),
        0,
      );
      seen[label]! += 1;
      if (better < 1) {
        top1 += 1;
        hits[label]! += 1;
      }
      if (better < 5) top5 += 1;
    });
    const present = [...seen.keys()].filter((k) => seen[k]! > 0);
    const losses = classification.losses(predictions, labels);
    return {
      top1: top1 / n,
      top1_interval: wilsonInterval(top1, n),
      top5: top5 / n,
      balanced_accuracy: present.reduce((sum, k) => sum + hits[k]! / seen[k]!, 0) / present.length,
      loss: losses.reduce((sum, l) => sum + l, 0) / n,
      images: n,
    };
  },
};

/** log(sum(exp(row))), safe for large logits. */
function logSumExp(row: Float32Array): number {
  const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
  return max + Math.log(row.reduce((sum, value) => sum + Math.exp(value - max), 0));
}
