import { expect, test } from 'vitest';
import { Rng } from './rng.js';

test('the same path gives the same numbers, another path others', () => {
  const draw = (...path: (string | number)[]) => {
    const rng = new Rng(...path);
    return Array.from({ length: 5 }, () => rng.uint32());
  };
  expect(draw(0, 'a')).toEqual(draw(0, 'a'));
  expect(new Set([draw(0, 'a'), draw(0, 'b'), draw('0', 'a'), draw(0), draw('0a')].map(String)).size).toBe(5);
  // Fixed values: streams must not change between versions, machines or Node releases.
  expect(draw('fixed', 1)).toMatchInlineSnapshot(`
    [
      2738524770,
      2841296023,
      2556375662,
      512230532,
      3641688658,
    ]
  `);
});

test('uniform, integer and normal draws have their moments', () => {
  const rng = new Rng('moments');
  const n = 20000;
  const mean = (f: () => number) => Array.from({ length: n }, f).reduce((a, b) => a + b, 0) / n;
  expect(mean(() => rng.uniform())).toBeCloseTo(0.5, 1);
  expect(mean(() => rng.int(7))).toBeCloseTo(3, 1);
  expect(mean(() => rng.normal())).toBeCloseTo(0, 1);
  expect(mean(() => rng.normal() ** 2)).toBeCloseTo(1, 1);
});

test('shuffle permutes in place, uniformly', () => {
  const rng = new Rng('shuffle');
  const counts = [0, 0, 0];
  for (let i = 0; i < 3000; i++) {
    const items = [0, 1, 2];
    expect(rng.shuffle(items)).toBe(items);
    expect([...items].sort()).toEqual([0, 1, 2]);
    const first = items[0] as 0 | 1 | 2;
    counts[first] = (counts[first] ?? 0) + 1;
  }
  for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(120);
});

test('int refuses what is not a positive integer', () => {
  for (const n of [0, -1, 1.5, NaN, 2 ** 33]) expect(() => new Rng('x').int(n)).toThrow(RangeError);
});
