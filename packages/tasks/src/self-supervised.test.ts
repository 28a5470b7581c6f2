import { Rng } from '@ntaa/random';
import { expect, it } from 'vitest';
import { contrast, selfSupervised } from './self-supervised.js';

const rows = (n: number, width: number, name: string): Float32Array => {
  const rng = new Rng(name);
  return Float32Array.from({ length: n * width }, () => rng.normal());
};

it.each([undefined, rows(6, 3, 'teacher')])('has the gradients of its loss', (keys) => {
  const at = rows(6, 3, 'student');
  const { logits } = contrast(at, 3, keys);
  at.forEach((value, i) => {
    const moved = (by: number) => {
      const there = at.slice();
      there[i] = value + by;
      return contrast(there, 3, keys).loss;
    };
    expect(logits[i]).toBeCloseTo((moved(0.01) - moved(-0.01)) / 0.02, 2);
  });
});

it('is least where views agree and images differ, and takes an odd row for none', () => {
  const apart = Float32Array.of(1, 0, 1, 0, -1, 0, -1, 0);
  const mixed = Float32Array.of(1, 0, -1, 0, 1, 0, -1, 0);
  expect(contrast(apart, 2).loss).toBeCloseTo(-10 + Math.log(2), 5);
  expect(contrast(apart, 2).loss).toBeLessThan(contrast(mixed, 2).loss);
  const odd = contrast(Float32Array.of(...apart, 3, 4), 2);
  expect(odd.loss).toBeCloseTo(contrast(apart, 2).loss, 6);
  expect([...odd.logits.slice(8)]).toEqual([0, 0]);
});

it('draws every image twice, side by side, and all of them before any comes again', () => {
  const indices = [3, 5, 7, 9];
  const targets = { labels: [], labelOf: new Float32Array(10) };
  const draw = selfSupervised.sampler({ indices, targets, batchSize: 4, path: ['seed'] });
  const [first, second] = [[...draw(0)], [...draw(1)]] as [number[], number[]];
  for (const batch of [first, second]) expect([batch[0], batch[2]]).toEqual([batch[1], batch[3]]);
  expect([first[0], first[2], second[0], second[2]].sort()).toEqual(indices);
});
