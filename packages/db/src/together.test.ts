import { expect, it } from 'vitest';
import { together } from './together.js';

it('takes what comes meanwhile together, in order; one at fault fails alone', async () => {
  const runs: number[][] = [];
  let release: () => void = () => undefined;
  const gate = new Promise<void>((open) => (release = open));
  const double = together(async (items: readonly number[]) => {
    runs.push([...items]);
    if (runs.length === 1) await gate;
    if (items.includes(13)) throw new Error('thirteen');
    return items.map((n) => 2 * n);
  }, 3);
  const all = [1, 2, 13, 4, 5].map((n) => double(n));
  release();
  const outcomes = await Promise.allSettled(all);
  expect(outcomes.map((o) => (o.status === 'fulfilled' ? o.value : String(o.reason)))).toEqual([
    ...[2, 4, 'Error: thirteen', 8, 10],
  ]);
  expect(runs).toEqual([[1], [2, 13, 4], [2], [13], [4], [5]]);
  expect(await double(6)).toBe(12);
});
