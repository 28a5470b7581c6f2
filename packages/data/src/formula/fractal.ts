/**
 * Fractals of random iterated function systems, after FractalDB (Kataoka et al., "Pre-training without natural images",
 * ACCV 2020). Maps are sampled by their singular values (Anderson and Farrell, "Improving fractal pre-training", WACV
 * 2022), so each is a contraction; systems that fill too little of the image are rejected, as in FractalDB.
 */
import type { Rng } from '@ntaa/random';
import { bell, between, chance, cosTurn, sinTurn } from './arithmetic.js';
import type { Family } from './family.js';

/** x' = a x + b y + e, y' = c x + d y + f. */
interface AffineMap {
  a: number;
  b: number;
  c: number;
  d: number;
  e: number;
  f: number;
}

const MIN_FILL = 0.2;
const ATTEMPTS = 60;
const GRID = 32;
const BURN_IN = 10;

export const fractal: Family = (rng) => {
  const maps = sampleSystem(rng);
  const colours = 1 + rng.int(3);
  return (canvas, instance, inks) => {
    const jittered = jitter(instance, maps);
    const groups: number[][] = Array.from({ length: colours }, () => []);
    const count = Math.floor(canvas.size * canvas.size * 0.9);
    const { points, chosen } = iterate(instance, jittered, count);
    normalise(points);
    const mirrored = chance(instance, 0.5) ? -1 : 1;
    for (let k = 0; k < count; k++)
      groups[chosen[k]! % colours]!.push(mirrored * points[2 * k]!, points[2 * k + 1]!);
    const weight = between(instance, 0.5, 1);
    groups.forEach((group, k) => canvas.scatter(group, weight, inks[k]!));
  };
};

function sampleSystem(rng: Rng): AffineMap[] {
  let best: AffineMap[] = [];
  let bestFill = -1;
  for (let attempt = 0; attempt < ATTEMPTS && bestFill < MIN_FILL; attempt++) {
    const maps = Array.from({ length: 2 + rng.int(7) }, () => sampleMap(rng));
    const fill = fillRate(rng, maps);
    if (fill > bestFill) [best, bestFill] = [maps, fill];
  }
  return best;
}

/** rotation * diag(singular values, signed) * rotation, and a translation. */
function sampleMap(rng: Rng): AffineMap {
  const s1 = between(rng, 0.2, 0.9);
  const s2 = between(rng, 0.1, s1) * (chance(rng, 0.5) ? -1 : 1);
  const [left, right] = [rng.uniform(), rng.uniform()];
  const [cl, sl, cr, sr] = [cosTurn(left), sinTurn(left), cosTurn(right), sinTurn(right)];
  return {
    a: cl * s1 * cr - sl * s2 * sr,
    b: -cl * s1 * sr - sl * s2 * cr,
    c: sl * s1 * cr + cl * s2 * sr,
    d: -sl * s1 * sr + cl * s2 * cr,
    e: between(rng, -1, 1),
    f: between(rng, -1, 1),
  };
}

/** FractalDB's instances: every parameter near the class's, and the translations a little freer. */
function jitter(rng: Rng, maps: readonly AffineMap[]): AffineMap[] {
  return maps.map((m) => {
    const near = (value: number): number => value * (1 + 0.15 * bell(rng));
    const [e, f] = [m.e + 0.1 * bell(rng), m.f + 0.1 * bell(rng)];
    return { a: near(m.a), b: near(m.b), c: near(m.c), d: near(m.d), e, f };
  });
}

/** The chaos game: maps chosen with probability proportional to |determinant|, at least a little each. */
function iterate(
  rng: Rng,
  maps: readonly AffineMap[],
  count: number,
): { points: number[]; chosen: number[] } {
  const weights = maps.map((m) => Math.abs(m.a * m.d - m.b * m.c) + 0.02);
  const total = weights.reduce((sum, w) => sum + w, 0);
  const points = new Array<number>(2 * count);
  const chosen = new Array<number>(count);
  let x = 0;
  let y = 0;
  for (let k = -BURN_IN; k < count; k++) {
    let left = rng.uniform() * total;
    let index = 0;
    while (index < maps.length - 1 && (left -= weights[index]!) >= 0) index++;
    const m = maps[index]!;
    [x, y] = [m.a * x + m.b * y + m.e, m.c * x + m.d * y + m.f];
    if (k < 0) continue;
    points[2 * k] = x;
    points[2 * k + 1] = y;
    chosen[k] = index;
  }
  return { points, chosen };
}

/** Shifts and scales the points, in place and keeping their aspect, to fit the unit square with a small margin. */
function normalise(points: number[]): void {
  const low = [Infinity, Infinity];
  const high = [-Infinity, -Infinity];
  for (let k = 0; k < points.length; k++) {
    low[k % 2] = Math.min(low[k % 2]!, points[k]!);
    high[k % 2] = Math.max(high[k % 2]!, points[k]!);
  }
  const scale = 1.8 / Math.max(high[0]! - low[0]!, high[1]! - low[1]!, 1e-6);
  for (let k = 0; k < points.length; k++) points[k] = (points[k]! - (low[k % 2]! + high[k % 2]!) / 2) * scale;
}

/** Fraction of a GRID x GRID raster that the system's points touch; 0 where it does not stay bounded. */
function fillRate(rng: Rng, maps: readonly AffineMap[]): number {
  const { points } = iterate(rng, maps, GRID * GRID);
  normalise(points);
  const touched = new Set<number>();
  for (let k = 0; k < points.length; k += 2) {
    const i = Math.floor(((points[k]! + 1) / 2) * GRID);
    const j = Math.floor(((points[k + 1]! + 1) / 2) * GRID);
    touched.add(j * GRID + i);
  }
  return touched.size / (GRID * GRID);
}
