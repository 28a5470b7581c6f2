import { Rng } from '@ntaa/random';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { kendallTau, pairedBootstrap, ridgeSolve, wilsonInterval } from './index.js';

/** Tau-b by its definition, pair by pair. */
function tauByDefinition(a: readonly number[], b: readonly number[]): number {
  let [agreement, untiedA, untiedB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++)
    for (let j = 0; j < i; j++) {
      const [da, db] = [Math.sign(a[i]! - a[j]!), Math.sign(b[i]! - b[j]!)];
      agreement += da * db;
      untiedA += Math.abs(da);
      untiedB += Math.abs(db);
    }
  return untiedA * untiedB === 0 ? 0 : agreement / Math.sqrt(untiedA * untiedB);
}

/** As in a textbook: Cholesky's factor row by row, then two substitutions. */
function solvedByRows(A: Float64Array, y: Float64Array, lambda: number): Float64Array {
  const d = y.length;
  const L = new Float64Array(d * d);
  for (let i = 0; i < d; i++)
    for (let j = 0; j <= i; j++) {
      let sum = A[i * d + j]! + (i === j ? lambda : 0);
      for (let m = 0; m < j; m++) sum -= L[i * d + m]! * L[j * d + m]!;
      L[i * d + j] = i === j ? Math.sqrt(sum) : sum / L[j * d + j]!;
    }
  const b = Float64Array.from(y);
  for (let i = 0; i < d; i++) {
    for (let j = 0; j < i; j++) b[i]! -= L[i * d + j]! * b[j]!;
    b[i]! /= L[i * d + i]!;
  }
  for (let i = d - 1; i >= 0; i--) {
    for (let j = i + 1; j < d; j++) b[i]! -= L[j * d + i]! * b[j]!;
    b[i]! /= L[i * d + i]!;
  }
  return b;
}

describe("Kendall's tau", () => {
  it('equals its definition, ties included', () => {
    const pairs = fc.array(fc.tuple(fc.integer({ min: 0, max: 6 }), fc.integer({ min: -3, max: 3 })), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(pairs, (list) => {
        const [a, b] = [list.map(([x]) => x), list.map(([, y]) => y)];
        expect(kendallTau(a, b)).toBeCloseTo(tauByDefinition(a, b), 12);
      }),
      { numRuns: 300 },
    );
  });

  it('is 1, -1 and 0 where it must be', () => {
    expect(kendallTau([1, 2, 3], [10, 20, 30])).toBe(1);
    expect(kendallTau([1, 2, 3], [3, 2, 1])).toBe(-1);
    expect(kendallTau([1, 2, 3], [5, 5, 5])).toBe(0);
    expect(() => kendallTau([1], [1, 2])).toThrow(RangeError);
  });
});

describe('the Wilson interval', () => {
  it('agrees with published values and stays within [0, 1]', () => {
    // Newcombe 1998, table I: 81/263 and 0/20.
    const [low, high] = wilsonInterval(81, 263);
    expect(low).toBeCloseTo(0.2553, 4);
    expect(high).toBeCloseTo(0.3662, 4);
    expect(wilsonInterval(0, 20)[0]).toBe(0);
    expect(wilsonInterval(0, 20)[1]).toBeCloseTo(0.1611, 4);
    expect(wilsonInterval(0, 0)).toEqual([0, 1]);
  });
});

describe('ridge', () => {
  it('solves its normal equations', () => {
    const rng = new Rng('ridge');
    const [n, d, k, lambda] = [30, 7, 3, 0.5];
    const X = Array.from({ length: n }, () => Array.from({ length: d }, () => rng.normal()));
    const Y = Array.from({ length: n }, () => Array.from({ length: k }, () => rng.normal()));
    const product = (columns: number, of: number[][]) =>
      Float64Array.from({ length: d * columns }, (_, at) => {
        const [i, j] = [Math.floor(at / columns), at % columns];
        return X.reduce((sum, row, m) => sum + row[i]! * of[m]![j]!, 0);
      });
    const [XtX, XtY] = [product(d, X), product(k, Y)];
    const B = ridgeSolve(XtX, XtY, lambda);
    for (let i = 0; i < d; i++)
      for (let c = 0; c < k; c++) {
        let left = lambda * B[i * k + c]!;
        for (let j = 0; j < d; j++) left += XtX[i * d + j]! * B[j * k + c]!;
        expect(left).toBeCloseTo(XtY[i * k + c]!, 9);
      }
  });

  it('reads the lower triangle, and adds up as row by row: results of jobs depend on every bit', () => {
    const rng = new Rng('ridge');
    for (const d of [1, 3, 4, 5, 31, 64]) {
      const x = Array.from({ length: 2 * d }, () => Array.from({ length: d }, () => rng.normal()));
      const lower = Float64Array.from({ length: d * d }, (_, at) => {
        const [i, j] = [Math.floor(at / d), at % d];
        return j > i ? NaN : x.reduce((sum, row) => sum + row[i]! * row[j]!, 0);
      });
      const y = Float64Array.from({ length: d }, () => rng.normal());
      expect(ridgeSolve(lower, y, 0.5), `${d}`).toEqual(solvedByRows(lower, y, 0.5));
    }
  });

  it('says so when it cannot', () => {
    const singular = Float64Array.of(1, 1, 1, 1);
    expect(() => ridgeSolve(singular, Float64Array.of(1, 1), 0)).toThrow(/raise it/);
    expect(ridgeSolve(singular, Float64Array.of(1, 1), 1)[0]).toBeCloseTo(1 / 3);
    expect(() => ridgeSolve(Float64Array.of(1, 2, 3), Float64Array.of(1), 0)).toThrow(RangeError);
  });
});

describe('the paired bootstrap', () => {
  it('covers the true difference about as often as it says', () => {
    const trials = 200;
    const covering = Array.from({ length: trials }, (_, trial) => {
      const rng = new Rng('coverage', trial);
      const groups = Array.from({ length: 12 }, () => {
        const effect = 0.3 + 0.1 * rng.normal();
        return Array.from({ length: 40 }, () => effect + rng.normal());
      });
      const { low, high } = pairedBootstrap(groups, rng, { resamples: 300 });
      return low <= 0.3 && 0.3 <= high;
    });
    const share = covering.filter(Boolean).length / trials;
    expect(share).toBeGreaterThan(0.88);
    expect(share).toBeLessThanOrEqual(1);
  });

  it('is a function of its numbers and its generator, and has no width where nothing varies', () => {
    const groups = [
      [0, 1, 0],
      [1, 1, 0],
    ];
    const once = pairedBootstrap(groups, new Rng(1));
    expect(pairedBootstrap(groups, new Rng(1))).toEqual(once);
    expect(once.mean).toBeCloseTo(0.5, 12);
    const constant = [
      [2, 2],
      [2, 2],
    ];
    expect(pairedBootstrap(constant, new Rng(1))).toEqual({ mean: 2, low: 2, high: 2 });
  });

  it('counts every group alike, however many values it has', () => {
    expect(pairedBootstrap([[1], [0, 0, 0]], new Rng(1)).mean).toBeCloseTo(0.5, 12);
  });
});
