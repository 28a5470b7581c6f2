import { taskFor } from '@ntaa/tasks';
import { expect, it } from 'vitest';
import { compared } from './search.js';

const judged = (losses: readonly number[], summary = {}) => ({ losses: Float32Array.from(losses), summary });

it('prefers another architecture only where it is better beyond doubt, image by image', () => {
  // Images differ far more from each other than answers for the same image do.
  const usual = [0, 4, 1, 9, 2, 6];
  const better = compared({}, judged([-0.5, 3.4, 0.6, 8.5, 1.6, 5.4]), judged(usual));
  expect(better.less).toBeCloseTo(-0.5, 5);
  expect(better.error!).toBeLessThan(0.05);
  expect(better.taken).toBe(true);
  // As much better in the mean, by luck with one image.
  const lucky = compared({}, judged([0, 4, 1, 6, 2, 6]), judged(usual));
  expect(lucky.less).toBeCloseTo(-0.5, 5);
  expect(lucky.taken).toBe(false);
  expect(compared({}, judged([1]), judged([2]))).toEqual({ less: -1, error: null, taken: false });
  expect(compared({}, judged(usual), judged(usual)).taken).toBe(false);
});

it('without labels, only where most measures say so and none otherwise, or the usual one is ruled out', () => {
  const usual = judged([], { source_top1: 0.9, information: 1, density: 1 });
  const taken = (source_top1: number, information: number, density: number): boolean =>
    compared(taskFor('domain-adaptation'), judged([], { source_top1, information, density }), usual).taken;
  expect(taken(0.91, 1.1, 1.1)).toBe(true);
  expect(taken(0.91, 1.1, 0.9)).toBe(false);
  expect(taken(0.9, 1.1, 1.1)).toBe(true);
  expect(taken(0.9, 1, 1)).toBe(false);
  expect(taken(0.9, 1, 1.1)).toBe(false);
  // Lost what the source had taught: the other, then the usual one.
  expect(taken(0.85, 1.1, 1.1)).toBe(false);
  expect(taken(0.95, 0.9, 0.9)).toBe(true);
});
