import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { cosTurn, sinTurn } from './formula/arithmetic.js';
import { FormulaSource, TINY_RECIPE } from './formula.js';

const SIZE = 24;
const BYTES = SIZE * SIZE * 3;

function hash(source: FormulaSource, classIndex: number, instance: number): string {
  const image = new Uint8Array(source.size * source.size * 3);
  source.render(classIndex, instance, image);
  return createHash('sha256').update(image).digest('hex');
}

/** What a glance sees: luminance difference from the image's mean, blurred to an 8 x 8 grid, sign removed. */
function features(source: FormulaSource, classIndex: number, instance: number): Float64Array {
  const image = new Uint8Array(BYTES);
  source.render(classIndex, instance, image);
  const grey = new Float64Array(SIZE * SIZE);
  for (let k = 0; k < grey.length; k++) grey[k] = image[3 * k]! + image[3 * k + 1]! + image[3 * k + 2]!;
  const mean = grey.reduce((sum, v) => sum + v, 0) / grey.length;
  const grid = new Float64Array(64);
  for (let j = 0; j < SIZE; j++)
    for (let i = 0; i < SIZE; i++)
      grid[Math.floor((j * 8) / SIZE) * 8 + Math.floor((i * 8) / SIZE)]! += Math.abs(
        grey[j * SIZE + i]! - mean,
      );
  const norm = Math.sqrt(grid.reduce((sum, v) => sum + v * v, 0)) + 1e-9;
  return grid.map((v) => v / norm);
}

/** Accuracy of nearest class mean over `tested` instances a class, means over `trained` others. */
function nearestMean(source: FormulaSource, trained: number, tested: number): number {
  const means = Array.from({ length: source.classes }, (_, k) => {
    const sum = new Float64Array(64);
    for (let n = 0; n < trained; n++) features(source, k, n).forEach((v, at) => (sum[at]! += v / trained));
    return sum;
  });
  const distance = (a: Float64Array, b: Float64Array): number =>
    a.reduce((sum, v, at) => sum + (v - b[at]!) ** 2, 0);
  let right = 0;
  for (let k = 0; k < source.classes; k++)
    for (let n = 0; n < tested; n++) {
      const seen = features(source, k, trained + n);
      const ranked = means.map((mean) => distance(mean, seen));
      if (ranked.indexOf(Math.min(...ranked)) === k) right++;
    }
  return right / (source.classes * tested);
}

describe('FormulaSource', () => {
  it('is a function of seed, class and instance alone', () => {
    const one = new FormulaSource({ classes: 40, size: SIZE, seed: 5 });
    const two = new FormulaSource({ classes: 80, size: SIZE, seed: 5 });
    for (let k = 0; k < 40; k++) {
      const expected = hash(one, k, 3);
      expect(hash(two, k, 3)).toBe(expected);
      expect(hash(one, k, 4)).not.toBe(expected);
      expect(hash(one, k, 3)).toBe(expected);
    }
    expect(hash(new FormulaSource({ classes: 40, size: SIZE, seed: 6 }), 0, 3)).not.toBe(hash(one, 0, 3));
  });

  it('gives the same bytes on every machine', () => {
    const source = new FormulaSource({ ...TINY_RECIPE, classes: 20 });
    const digest = createHash('sha256');
    const image = new Uint8Array(source.size * source.size * 3);
    for (let k = 0; k < 200; k++) {
      source.render(k % 20, Math.floor(k / 20), image);
      digest.update(image);
    }
    expect(digest.digest('hex')).toMatchInlineSnapshot(
      `"4dac25e01ed1cec06c2ff53c97ead60f6ea5a3a9d8651de79392ac92c79f2a5a"`,
    );
  });

  it.each(TINY_RECIPE.families.filter((f) => f !== 'texture'))('%s: classes can be told apart', (family) => {
    const source = new FormulaSource({ classes: 20, size: SIZE, seed: 1, families: [family] });
    expect(nearestMean(source, 20, 10)).toBeGreaterThan(0.15); // chance is 0.05
  });

  it('draws something in nearly every image of every family', () => {
    for (const family of TINY_RECIPE.families) {
      const source = new FormulaSource({ classes: 50, size: SIZE, seed: 2, families: [family] });
      const image = new Uint8Array(BYTES);
      let blank = 0;
      for (let k = 0; k < 50; k++) {
        source.render(k, 0, image);
        if (Math.max(...image) - Math.min(...image) < 20) blank++;
      }
      expect(blank, family).toBeLessThanOrEqual(2);
    }
  });

  it('refuses what it cannot draw, by name', () => {
    expect(() => new FormulaSource({ classes: 0, size: SIZE, seed: 1 })).toThrow('classes');
    expect(() => new FormulaSource({ classes: 2.5, size: SIZE, seed: 1 })).toThrow('classes');
    expect(() => new FormulaSource({ classes: 2, size: 4, seed: 1 })).toThrow('size');
    expect(() => new FormulaSource({ classes: 2, size: SIZE, seed: 1, families: [] })).toThrow('families');
    const source = new FormulaSource({ classes: 2, size: SIZE, seed: 1 });
    expect(() => source.render(2, 0, new Uint8Array(BYTES))).toThrow('class 2 of 2');
    expect(() => source.render(0, 0, new Uint8Array(BYTES - 1))).toThrow('bytes');
  });
});

describe('trigonometry without Math.sin', () => {
  it('agrees with it', () => {
    for (let t = -2; t < 2; t += 0.0137) {
      expect(Math.abs(sinTurn(t) - Math.sin(2 * Math.PI * t))).toBeLessThan(1e-6);
      expect(Math.abs(cosTurn(t) - Math.cos(2 * Math.PI * t))).toBeLessThan(1e-6);
    }
  });
});
