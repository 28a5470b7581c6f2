/** What an architecture costs, and whether constraints can be met. */
import type { Constraints, Cost, Genotype, SearchSpace } from '@ntaa/contracts';
import { largest, smallest } from './space.js';
import { units } from './units.js';

/**
 * Multiply-accumulates of the convolutions and the classifier (or the neck) for one image; trainable parameters (batch
 * norm's gamma and beta and the classifier's bias included); their size as float32.
 */
export function cost(space: SearchSpace, genotype: Genotype, outputs: number): Cost {
  const { width, neck } = space.head;
  // Who delivers embeddings delivers no classifier.
  let macs = neck ? width : width * outputs;
  let params = neck ? width : (width + 1) * outputs;
  for (const layer of units(space, genotype).flatMap((unit) => unit.layers)) {
    const weights = layer.kernel ** 2 * (layer.depthwise ? 1 : layer.channelsIn) * layer.channelsOut;
    macs += weights * layer.height * layer.width;
    params += weights + 2 * layer.channelsOut;
  }
  return { macs, params, size_bytes: 4 * params };
}

/** The least and the greatest cost in the space: every cost grows with every choice. */
export function costRange(space: SearchSpace, outputs: number): { min: Cost; max: Cost } {
  return { min: cost(space, smallest(space), outputs), max: cost(space, largest(space), outputs) };
}

/** What the architecture alone decides. */
const STATIC_LIMITS = [
  ['max_macs', 'macs'],
  ['max_params', 'params'],
  ['max_size_bytes', 'size_bytes'],
] as const;
const LIMITS = [...STATIC_LIMITS, ['max_latency_ms', 'latency_ms'] as const];

/**
 * 0 when every constraint is met, else the sum of the relative excesses (2 for a cost three times its limit). The
 * latency limit counts only when a latency is given.
 */
export function violation(measured: Cost & { latency_ms?: number }, constraints: Constraints): number {
  return LIMITS.reduce((sum, [limit, quantity]) => {
    const value = measured[quantity];
    const bound = constraints[limit];
    return value == null || bound == null ? sum : sum + Math.max(0, value / bound - 1);
  }, 0);
}

/** Limits that no architecture meets, each with the least value that one does meet. */
export type Unreachable = Partial<Record<'max_macs' | 'max_params' | 'max_size_bytes', number>>;

/**
 * The nearest achievable value of every limit that the whole space exceeds; empty when the constraints can be met.
 * One architecture, the smallest, has the least of every cost, so limits that are reachable are so together.
 */
export function nearestAchievable(
  space: SearchSpace,
  outputs: number,
  constraints: Constraints,
): Unreachable {
  const { min } = costRange(space, outputs);
  const unreachable: Unreachable = {};
  for (const [limit, quantity] of STATIC_LIMITS) {
    const bound = constraints[limit];
    if (bound != null && min[quantity] > bound) unreachable[limit] = min[quantity];
  }
  return unreachable;
}
