/**
 * Trigonometry and noise from + - * and floor only, so that a formula image is the same byte for byte on every machine
 * (the last digit of Math.sin is up to the JavaScript engine).
 */
import type { Rng } from '@ntaa/random';

/** sin(2 pi t), t in turns; error below 1e-7. */
export function sinTurn(t: number): number {
  let x = t - Math.floor(t);
  if (x > 0.75) x -= 1;
  else if (x > 0.25) x = 0.5 - x;
  const a = x * 6.283185307179586;
  const q = a * a;
  return a * (1 - (q / 6) * (1 - (q / 20) * (1 - (q / 42) * (1 - (q / 72) * (1 - q / 110)))));
}

/** cos(2 pi t), t in turns. */
export function cosTurn(t: number): number {
  return sinTurn(t + 0.25);
}

/** Uniform in [low, high). */
export function between(rng: Rng, low: number, high: number): number {
  return low + (high - low) * rng.uniform();
}

/** Bell-shaped, mean 0, within (-1, 1), standard deviation 1/3: a sum of uniforms needs no logarithm. */
export function bell(rng: Rng): number {
  return (rng.uniform() + rng.uniform() + rng.uniform() - 1.5) / 1.5;
}

/** True with probability p. */
export function chance(rng: Rng, p: number): boolean {
  return rng.uniform() < p;
}

/** One of `items`, which must not be empty. */
export function pick<T>(rng: Rng, items: readonly T[]): T {
  return items[rng.int(items.length)]!;
}

/** Lattice hash in [0, 1): an avalanche of integer multiplications. */
export function hash2(x: number, y: number, seed: number): number {
  let h = Math.imul(x, 0x27d4eb2d) ^ Math.imul(y, 0x165667b1) ^ seed;
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) >>> 0) / 4294967296;
}

/** Smooth value noise in [0, 1) with unit lattice. */
export function valueNoise(x: number, y: number, seed: number): number {
  const x0 = Math.floor(x);
  const y0 = Math.floor(y);
  const fx = x - x0;
  const fy = y - y0;
  const u = fx * fx * (3 - 2 * fx);
  const v = fy * fy * (3 - 2 * fy);
  const top = hash2(x0, y0, seed) * (1 - u) + hash2(x0 + 1, y0, seed) * u;
  const bottom = hash2(x0, y0 + 1, seed) * (1 - u) + hash2(x0 + 1, y0 + 1, seed) * u;
  return top * (1 - v) + bottom * v;
}
