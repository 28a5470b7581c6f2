import { expect, it } from 'vitest';
import type { Run } from './run.js';
import { winner } from './search.js';

const raced = [
  { loss: 0.5, error: 0.1, seconds: 0, quality: 0, metrics: {} },
  { loss: 0.505, error: 0.1, seconds: 0, quality: 0, metrics: {} },
  { loss: 0.9, error: 0.1, seconds: 0, quality: 0, metrics: {} },
];
const chosen = (out: readonly number[], costs = [3, 2, 1]) =>
  winner(
    { state: { raced: raced.map((one, i) => ({ ...one, out: out.includes(i) })) } } as unknown as Run,
    costs,
  );

it('chooses the best finalist, or a cheaper one that is as good', () => {
  expect(chosen([])).toBe(1);
  expect(chosen([], [1, 2, 3])).toBe(0);
});

it('compares only those with as many image passes, unless all were cut short', () => {
  expect(chosen([1])).toBe(0);
  expect(chosen([0, 1])).toBe(2);
  expect(chosen([0, 1, 2])).toBe(1);
});
