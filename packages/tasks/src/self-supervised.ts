import { Rng } from '@ntaa/random';
import type { LossOfOutputs } from '@ntaa/supernet';
import { reIdentification } from './re-identification.js';
import { unitRows } from './reid-protocol.js';
import type { SamplerInput, Task } from './task.js';

const TEMPERATURE = 0.2;

/**
 * Images without labels: a network learns to find the other view of an image among the images of its batch. The loss is
 * the decoupled contrastive one (Yeh et al., ECCV 2022), which leaves the right answer out of the denominator: with the few
 * negatives of a small batch the usual one (SimCLR) loses most of its gradient, and covariance terms (VICReg, Barlow
 * Twins) would be estimated from fewer images than dimensions. The classifier is the projector, and thrown away.
 * Subnets look for the largest network's embedding of the other view. Judged as retrieval: every image is an identity,
 * every view a camera. Not a task that a job can ask for: what `pretrain` trains on.
 */
export const selfSupervised = {
  name: 'self-supervised',
  output: 'embedding',
  delivery: 'embedding',
  reads: 'features',
  // The views must differ in all that should not matter.
  augmentation: { rotate: 15, scale: 0.4, translate: 0.2, color: 0.5, erase: 0.3 },
  stratum: () => 0,
  targets: (samples) => ({ labels: [], labelOf: new Float32Array(samples.length) }),
  sampler: pairs,
  headTarget: (_, row) => row.fill(1 / row.length),
  objective:
    ({ outputs }) =>
    ({ logits }) =>
      contrast(logits, outputs),
  distil:
    (teacher, { outputs }) =>
    ({ logits }) =>
      contrast(logits, outputs, teacher),
  judge: reIdentification.judge,
  metrics: reIdentification.metrics,
} satisfies Task;

/** Every image at two neighbouring places, the first of them even: the loader gives each place a view of its own. */
function pairs({ indices, batchSize, path }: SamplerInput) {
  const half = batchSize >> 1;
  let shuffled: { epoch: number; order: number[] } | undefined;
  const at = (position: number): number => {
    const epoch = Math.floor(position / indices.length);
    if (shuffled?.epoch !== epoch)
      shuffled = { epoch, order: new Rng(...path, 'pairs', epoch).shuffle([...indices]) };
    return shuffled.order[position % indices.length]!;
  };
  return (step: number): Int32Array =>
    Int32Array.from({ length: batchSize }, (_, i) =>
      at(step * half + Math.min(i >> 1, Math.max(0, half - 1))),
    );
}

/**
 * Mean over the rows i of -s(i, i^1) + log sum of exp s(i, j) over the others j, where s is the cosine of row i and key j
 * by temperature. Without keys rows are compared with each other; keys are constants. Rows [n * width]; an odd last one
 * counts for nothing.
 */
export function contrast(rows: Float32Array, width: number, keys?: Float32Array): LossOfOutputs {
  const n = (rows.length / width) & ~1;
  const q = unitRows(rows, width);
  const k = keys ? unitRows(keys, width) : q;
  const along = new Float64Array(n * width);
  const s = new Float64Array(n);
  let loss = 0;
  for (let i = 0; i < n; i++) {
    const own = i * width;
    const partner = i ^ 1;
    let max = -Infinity;
    for (let j = 0; j < n; j++) {
      let dot = 0;
      for (let c = 0; c < width; c++) dot += q[own + c]! * k[j * width + c]!;
      s[j] = dot / TEMPERATURE;
      if (j !== i && j !== partner) max = Math.max(max, s[j]!);
    }
    let total = 0;
    for (let j = 0; j < n; j++) if (j !== i && j !== partner) total += Math.exp(s[j]! - max);
    loss += (total > 0 ? max + Math.log(total) : 0) - s[partner]!;
    for (let j = 0; j < n; j++) {
      if (j === i) continue;
      const slope = (j === partner ? -1 : Math.exp(s[j]! - max) / total) / TEMPERATURE / n;
      for (let c = 0; c < width; c++) {
        along[own + c]! += slope * k[j * width + c]!;
        if (!keys) along[j * width + c]! += slope * q[own + c]!;
      }
    }
  }
  return { loss: loss / Math.max(1, n), logits: throughUnitRows(rows, q, along, width) };
}

/** Gradients in rows, of those in the rows at length 1. */
function throughUnitRows(
  rows: Float32Array,
  unit: Float32Array,
  along: Float64Array,
  width: number,
): Float32Array {
  const out = new Float32Array(rows.length);
  for (let from = 0; from < along.length; from += width) {
    let [squares, dot] = [0, 0];
    for (let c = from; c < from + width; c++) {
      squares += rows[c]! ** 2;
      dot += unit[c]! * along[c]!;
    }
    const length = Math.sqrt(squares);
    if (length > 0) for (let c = from; c < from + width; c++) out[c] = (along[c]! - dot * unit[c]!) / length;
  }
  return out;
}
