/** Rank correlation and intervals. */
import type { Rng } from '@ntaa/random';

/**
 * Kendall's tau-b of two lists of equal length, ties in either accounted for; 0 when one of them is constant.
 * Knight's algorithm, O(n log n): discordant pairs are the inversions of b in the order of a.
 */
export function kendallTau(a: readonly number[], b: readonly number[]): number {
  const n = a.length;
  if (b.length !== n) throw new RangeError(`kendallTau: ${n} values against ${b.length}`);
  const order = Array.from(a.keys()).sort((i, j) => a[i]! - a[j]! || b[i]! - b[j]!);
  const sortedA = order.map((i) => a[i]!);
  const sortedB = order.map((i) => b[i]!);
  const pairs = (n * (n - 1)) / 2;
  const tiedBoth = tiedPairs(n, (i) => sortedA[i] === sortedA[i - 1] && sortedB[i] === sortedB[i - 1]);
  const tiedA = tiedPairs(n, (i) => sortedA[i] === sortedA[i - 1]);
  const discordant = sortCountingInversions(sortedB);
  const tiedB = tiedPairs(n, (i) => sortedB[i] === sortedB[i - 1]);
  const denominator = Math.sqrt((pairs - tiedA) * (pairs - tiedB));
  return denominator === 0 ? 0 : (pairs - tiedA - tiedB + tiedBoth - 2 * discordant) / denominator;
}

/** Pairs within runs of equal neighbours. */
function tiedPairs(n: number, tiedWithPrevious: (i: number) => boolean): number {
  let total = 0;
  let run = 0;
  for (let i = 1; i < n; i++) {
    run = tiedWithPrevious(i) ? run + 1 : 0;
    total += run;
  }
  return total;
}

/** Merge sort in place; returns the number of pairs that stood in strictly descending order. */
function sortCountingInversions(values: number[]): number {
  if (values.length < 2) return 0;
  const left = values.slice(0, values.length >> 1);
  const right = values.slice(values.length >> 1);
  let inversions = sortCountingInversions(left) + sortCountingInversions(right);
  let i = 0;
  let j = 0;
  for (let k = 0; k < values.length; k++) {
    if (j === right.length || (i < left.length && left[i]! <= right[j]!)) values[k] = left[i++]!;
    else {
      values[k] = right[j++]!;
      inversions += left.length - i;
    }
  }
  return inversions;
}

/** Wilson score interval [low, high] of a proportion; 95% for z = 1.96. [0, 1] when n is 0. */
export function wilsonInterval(successes: number, n: number, z = 1.96): [number, number] {
  if (n === 0) return [0, 1];
  const p = successes / n;
  const shrink = 1 + z ** 2 / n;
  const centre = (p + z ** 2 / (2 * n)) / shrink;
  const half = (z / shrink) * Math.sqrt((p * (1 - p)) / n + z ** 2 / (4 * n ** 2));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/** Interval [low, high] of the mean of values drawn independently, normal approximation; 95% for z = 1.96. */
export function meanInterval(values: ArrayLike<number>, z = 1.96): [number, number] {
  const half = z * standardError(values);
  const mean = meanOf(values);
  return [mean - half, mean + half];
}

export function meanOf(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum / values.length;
}

/** Of the mean; infinite for fewer than two values. */
export function standardError(values: ArrayLike<number>): number {
  const n = values.length;
  if (n < 2) return Infinity;
  const mean = meanOf(values);
  let squares = 0;
  for (let i = 0; i < n; i++) squares += (values[i]! - mean) ** 2;
  return Math.sqrt(squares / (n - 1) / n);
}

/**
 * Mean over groups of their means, with the percentile interval of a two-level bootstrap: groups are drawn with
 * replacement, then the values of each. Of paired differences, a group being a seed and a value a test item, it is the
 * interval of the difference between two methods. With few groups such intervals are a little too narrow.
 */
export function pairedBootstrap(
  groups: readonly ArrayLike<number>[],
  rng: Rng,
  { resamples = 2000, level = 0.95 } = {},
): { mean: number; low: number; high: number } {
  const redrawn = (group: ArrayLike<number>): number => {
    let sum = 0;
    for (let i = 0; i < group.length; i++) sum += group[rng.int(group.length)]!;
    return sum / group.length;
  };
  const means = Float64Array.from({ length: resamples }, () =>
    meanOf(groups.map(() => redrawn(groups[rng.int(groups.length)]!))),
  ).sort();
  const at = (share: number): number => means[Math.round(share * (resamples - 1))]!;
  return { mean: meanOf(groups.map(meanOf)), low: at((1 - level) / 2), high: at((1 + level) / 2) };
}
