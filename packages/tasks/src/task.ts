import type { ClassificationMetrics, TaskName } from '@ntaa/contracts';

/**
 * What differs between tasks: how many outputs the head has, what its targets are, and how predictions are judged.
 * One file per task implements it.
 */
export interface Task {
  readonly name: TaskName;
  /** Name of the network's output in exported models. */
  readonly output: 'logits' | 'embedding' | 'age';
  /** Width of the head for these labels. */
  outputs(labels: readonly string[]): number;
  /** Training targets, a probability per output: [labels.length * outputs], row-major. */
  targets(labels: Int32Array, outputs: number): Float32Array;
  /** Loss of each image on its true label (nats), the raw material of the fitness. `predictions`: [n * outputs]. */
  losses(predictions: Float32Array, labels: Int32Array): Float32Array;
  metrics(predictions: Float32Array, labels: Int32Array, outputs: number): ClassificationMetrics;
}
