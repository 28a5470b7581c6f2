import { Rng } from '@ntaa/random';
import { expect, test } from 'vitest';
import { mix } from './index.js';

/** One colour an image: what a pixel is worth tells whose it is. */
const flat = (n: number, side: number): Float32Array =>
  Float32Array.from({ length: n * side * side * 3 }, (_, i) => 1 + Math.floor(i / (side * side * 3)));

const means = (images: Float32Array, n: number): number[] => {
  const stride = images.length / n;
  return Array.from(
    { length: n },
    (_, i) => images.subarray(i * stride, (i + 1) * stride).reduce((sum, value) => sum + value, 0) / stride,
  );
};

test('a mixed image shows as much of its partner as is said, at every resolution the same', () => {
  const kinds = new Set<string>();
  for (let seed = 0; seed < 40; seed++) {
    const shares = [24, 32, 48].map((side) => {
      const n = 5;
      const images = flat(n, side);
      const { share, partner } = mix(images, n, { width: side, height: side }, new Rng('mix', seed));
      means(images, n).forEach((mean, i) =>
        expect(mean).toBeCloseTo(share * (1 + i) + (1 - share) * (1 + partner(i)), 3),
      );
      // The one in the middle is its own partner, and stays what it was.
      expect(partner(2)).toBe(2);
      kinds.add(images.every((value) => Number.isInteger(value)) ? 'pasted' : 'blended');
      return share;
    });
    expect(new Set(shares).size).toBe(1);
  }
  expect(kinds).toEqual(new Set(['pasted', 'blended']));
});

test('a rectangle is pasted, not scattered, and sides need not be equal', () => {
  const [width, height] = [16, 32];
  for (let seed = 0; seed < 40; seed++) {
    const images = Float32Array.from({ length: 2 * width * height * 3 }, (_, i) =>
      Number(i >= width * height * 3),
    );
    const { share } = mix(images, 2, { width, height }, new Rng('portrait', seed));
    const own = images.subarray(0, width * height * 3);
    if (!own.every((value) => Number.isInteger(value))) continue;
    const foreign = [...own.keys()].filter((i) => i % 3 === 0 && own[i] === 1).map((i) => i / 3);
    const [xs, ys] = [foreign.map((i) => i % width), foreign.map((i) => Math.floor(i / width))];
    const box =
      foreign.length === 0
        ? 0
        : (Math.max(...xs) - Math.min(...xs) + 1) * (Math.max(...ys) - Math.min(...ys) + 1);
    expect(foreign.length).toBe(box);
    expect(box / (width * height)).toBeCloseTo(1 - share, 5);
  }
});
