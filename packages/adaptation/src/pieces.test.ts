import { cost, Distribution, tinySpace } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { expect, it } from 'vitest';
import { cut } from './pieces.js';

const network = { space: tinySpace, outputs: 10 };
const uniform = Distribution.uniform(tinySpace);
const drawn = (count: number) => Array.from({ length: count }, (_, i) => uniform.sample(new Rng('cut', i)));

it.each([0, 1, 2, 3, 24, 1000].flatMap((count) => [1, 2].map((threads) => [count, threads] as const)))(
  'cuts %d architectures into pieces that get smaller, each in one, for crews of %d',
  (count, threads) => {
    const genotypes = drawn(count);
    const pieces = cut(network, genotypes, 700, threads);
    expect(pieces.flat().sort((a, b) => a - b)).toEqual(genotypes.map((_, i) => i));
    expect(pieces.length).toBeLessThanOrEqual(256);
    const work = pieces.map((piece) =>
      piece.reduce((sum, index) => sum + 700 * cost(tinySpace, genotypes[index]!, 10).macs, 0),
    );
    // What all wait for in the end is small beside the whole.
    const total = work.reduce((sum, value) => sum + value, 0);
    if (count >= 24) expect(work.at(-1)! / total).toBeLessThan(0.1);
    if (count === 1000) expect(pieces.length).toBeGreaterThan(30);
    for (const piece of pieces.slice(0, -1)) expect(piece.length % threads).toBe(0);
    // Nobody waits for two where one thread could do one.
    if (count === 24) expect(pieces.at(-1)!.length).toBeLessThanOrEqual(threads);
  },
);

it('makes one piece of what is not worth two', () => {
  expect(cut(network, drawn(4), 10, 1)).toHaveLength(1);
});
