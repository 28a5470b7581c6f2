import { Rng } from '@ntaa/random';
import type { Split } from '@ntaa/contracts';
import type { Sample, Splits } from './types.js';

export interface SplitFractions {
  /** Share of all images for validation, 0..1. Default 0.15. */
  validation?: number;
  /** Share of all images for the test, 0..1. Default 0.2. */
  test?: number;
}
type SplitSample = Pick<Sample, 'path' | 'label' | 'split' | 'sha1' | 'identity' | 'repeats'>;

/**
 * Seeded split, stratified by class. A split given by the archive is kept as it is; one that it lacks is taken out of
 * the rest. Images of one identity, and those that show the same picture (byte-identical ones, and those found to be
 * near-duplicates when the dataset arrived), are kept together. A class of at least three images that
 * are free to move has at least one in train and one in test. The result depends on the samples as a set and on the
 * seed, not on the order of `samples`.
 */
export function splitDataset(
  samples: readonly SplitSample[],
  seed: number,
  { validation = 0.15, test = 0.2 }: SplitFractions = {},
): Splits {
  const given = new Set(samples.map(({ split }) => split));
  const order = samples.map((_, i) => i).sort((a, b) => compare(samples[a]!.path, samples[b]!.path));
  const assigned: Split[] = samples.map(({ split }) => split ?? 'train');
  // Given splits are not touched, except that train gives away what the archive does not name.
  const pool = order.filter((i) => assigned[i] === 'train');
  const shares = { validation: given.has('validation') ? 0 : validation, test: given.has('test') ? 0 : test };
  const wanted = quotas(samples, pool, shares);
  const groups = new Rng(seed, 'split').shuffle(grouped(samples, pool));
  groups.sort((a, b) => b.length - a.length); // stable: equal sizes stay shuffled
  for (const group of groups) {
    const chosen = neediest(group.map((i) => wanted.get(samples[i]!.label)!));
    for (const i of group) {
      assigned[i] = chosen;
      wanted.get(samples[i]!.label)![chosen]--;
    }
  }
  const of = (split: Split) => order.filter((i) => assigned[i] === split);
  return { train: of('train'), validation: of('validation'), test: of('test') };
}

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
type Quota = Record<Split, number>;

/** How many images of each class every split should get; rounding errors are carried from class to class. */
function quotas(
  samples: readonly SplitSample[],
  pool: readonly number[],
  shares: { validation: number; test: number },
): Map<number, Quota> {
  const counts = new Map<number, number>();
  for (const i of pool) counts.set(samples[i]!.label, (counts.get(samples[i]!.label) ?? 0) + 1);
  const carry = { validation: 0, test: 0 };
  const take = (split: 'validation' | 'test', n: number, least: number, most: number) => {
    const exact = n * shares[split] + carry[split];
    const count = Math.max(Math.min(least, most), Math.min(most, Math.round(exact)));
    carry[split] = exact - count;
    return count;
  };
  const result = new Map<number, Quota>();
  for (const [label, n] of [...counts].sort(([a], [b]) => a - b)) {
    const test = shares.test > 0 ? take('test', n, n >= 3 ? 1 : 0, n - 1) : 0;
    const validation = shares.validation > 0 ? take('validation', n, 0, n - 1 - test) : 0;
    result.set(label, { train: n - validation - test, validation, test });
  }
  return result;
}

/** Connected components of "same identity", "same bytes" and "same picture", in the order of their first image. */
function grouped(samples: readonly SplitSample[], pool: readonly number[]): number[][] {
  const parent = new Map<string, string>();
  const root = (key: string): string => {
    let at = key;
    for (let up = parent.get(at); up !== undefined; up = parent.get(at)) at = up;
    if (at !== key) parent.set(key, at);
    return at;
  };
  const key = (i: number) => `bytes ${samples[i]!.sha1}`;
  const join = (one: string, other: string): void => {
    const [a, b] = [root(one), root(other)];
    if (a !== b) parent.set(a, b);
  };
  for (const i of pool) {
    const { identity, repeats, path } = samples[i]!;
    if (identity !== undefined) join(key(i), `identity ${identity}`);
    // Every image's bytes stand for its path too, so that those which repeat it find it.
    join(key(i), `path ${path}`);
    if (repeats !== undefined) join(key(i), `path ${repeats}`);
  }
  const groups = new Map<string, number[]>();
  for (const i of pool) {
    const at = root(key(i));
    const group = groups.get(at);
    if (group) group.push(i);
    else groups.set(at, [i]);
  }
  return [...groups.values()];
}

/** The split that still lacks most images of these classes; test before validation before train when equal. */
function neediest(lacking: readonly Quota[]): Split {
  const need = (split: Split) => lacking.reduce((sum, quota) => sum + quota[split], 0);
  const [test, validation, train] = [need('test'), need('validation'), need('train')];
  if (train > test && train > validation) return 'train';
  return test >= validation ? 'test' : 'validation';
}
