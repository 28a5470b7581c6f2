/** How good a subnet of a pretrained supernet is on held-out images of the source. */
import type { Genotype } from '@ntaa/contracts';
import { tf } from '@ntaa/engine';
import type { BnStatistics, Supernet } from '@ntaa/supernet';
import type { Task } from '@ntaa/tasks';
import { calibrationSubset, predictAll, recalibrate } from './evaluate.js';
import type { Measured } from './pieces.js';
import { TrainingBatches, truthOf, type BatchPart, type TargetData } from './target-data.js';

/** Images that batch norms are calibrated on. */
export const CALIBRATION = 2000;
/** Images of a step of self-supervised training: each but its pair is something to differ from. */
export const VIEWS = 128;
/** Held-out images whose views are looked for. */
const LOOKED_FOR = 500;
/** Features have collapsed when their deviation, at length 1, is below this share of what is possible. */
const COLLAPSED = 0.2;

interface Subject {
  net: Supernet;
  data: TargetData;
  task: Task;
  seed: number;
}

export function measureSubnet(subject: Subject, genotype: Genotype): Measured {
  const { net, data, task, seed } = subject;
  const { train, test } = data.splits;
  const bn = recalibrate(net, genotype, data, calibrationSubset(train, seed, CALIBRATION));
  const measured =
    task.reads === 'features'
      ? viewsFound(subject, genotype, bn)
      : { metrics: task.metrics(predictAll(net, genotype, bn, data, test), truthOf(data, test)) };
  bn.dispose();
  return measured;
}

/** How well features find the other of two random views of held-out images among all of them. */
function viewsFound({ net, data, task, seed }: Subject, genotype: Genotype, bn: BnStatistics): Measured {
  const found = calibrationSubset(data.splits.test, seed, LOOKED_FOR);
  const indices = found.length < 2 ? [...found, ...found] : found;
  const size = Math.min(VIEWS, indices.length) & ~1;
  const batches = new TrainingBatches(data, indices, size, [seed, 'views'], task);
  const steps = Math.floor((2 * indices.length) / size);
  const { width } = net.space.head;
  const features = new Float32Array(steps * size * width);
  for (let step = 0; step < steps; step++) {
    const [{ images }] = batches.batch(step, genotype.resolution) as [BatchPart];
    const seen = tf.tidy(() => net.forward(images, genotype, bn).features);
    features.set(seen.dataSync(), step * size * width);
    tf.dispose([images, seen]);
  }
  const spread = spreadOf(features, width);
  const places = Array.from({ length: steps * size }, (_, i) => i);
  const metrics = task.metrics(features, {
    labels: Float32Array.from(places, (i) => i >> 1),
    cameras: Int32Array.from(places, (i) => i & 1),
  });
  return { metrics, ...(spread < COLLAPSED && { collapsed: spread }) };
}

/** Standard deviation of rows at length 1, over what it is where they point everywhere: 1 / sqrt(width). */
function spreadOf(rows: Float32Array, width: number): number {
  const n = rows.length / width;
  const mean = new Float64Array(width);
  for (let i = 0; i < rows.length; i += width) {
    const length = Math.hypot(...rows.subarray(i, i + width)) || 1;
    for (let c = 0; c < width; c++) mean[c]! += rows[i + c]! / length / n;
  }
  // Squares of rows of length 1 sum to 1.
  return Math.sqrt(Math.max(0, 1 - mean.reduce((sum, value) => sum + value ** 2, 0)));
}
