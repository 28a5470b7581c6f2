import { Rng } from '@ntaa/random';
import { expect, it } from 'vitest';
import { momentsOf, neckBack, normaliseNeck } from './neck.js';

const [n, width] = [7, 3];
const rng = new Rng('neck');
const x = Float32Array.from({ length: n * width }, () => 2 * rng.normal() + 1);
const gamma = Float32Array.from({ length: width }, () => 1 + 0.3 * rng.normal());
const weights = Float32Array.from({ length: n * width }, () => rng.normal());

/** sum of weights * neck(x), in double precision. */
function loss(values: ArrayLike<number>, scales: ArrayLike<number>): number {
  let total = 0;
  for (let c = 0; c < width; c++) {
    const column = Array.from({ length: n }, (_, i) => values[i * width + c]!);
    const mean = column.reduce((a, b) => a + b) / n;
    const variance = column.reduce((sum, v) => sum + (v - mean) ** 2, 0) / n;
    column.forEach((v, i) => {
      total += (weights[i * width + c]! * scales[c]! * (v - mean)) / Math.sqrt(variance + 1e-5);
    });
  }
  return total;
}

it('has the gradients of finite differences', () => {
  const d = weights.slice();
  const dgamma = new Float32Array(width);
  neckBack(x, d, gamma, momentsOf(x, width), dgamma);
  const slope = (at: Float32Array, i: number, of: (values: Float64Array) => number) => {
    const [up, down] = [1e-4, -1e-4].map((step) => {
      const moved = Float64Array.from(at);
      moved[i]! += step;
      return of(moved);
    }) as [number, number];
    return (up - down) / 2e-4;
  };
  x.forEach((_, i) =>
    expect(d[i]).toBeCloseTo(
      slope(x, i, (moved) => loss(moved, gamma)),
      4,
    ),
  );
  gamma.forEach((_, c) =>
    expect(dgamma[c]).toBeCloseTo(
      slope(gamma, c, (moved) => loss(x, moved)),
      4,
    ),
  );
});

it('passes gradients through fixed moments without those of the moments', () => {
  const fixed = { mean: Float32Array.of(0.2, -1, 0.5), variance: Float32Array.of(2, 0.5, 1) };
  const d = weights.slice();
  const dgamma = new Float32Array(width);
  neckBack(x, d, gamma, fixed, dgamma, true);
  const inverse = fixed.variance.map((value) => 1 / Math.sqrt(value + 1e-5));
  d.forEach((value, i) =>
    expect(value).toBeCloseTo(weights[i]! * gamma[i % width]! * inverse[i % width]!, 5),
  );
  dgamma.forEach((value, c) => {
    let sum = 0;
    for (let i = c; i < x.length; i += width) sum += weights[i]! * (x[i]! - fixed.mean[c]!) * inverse[c]!;
    expect(value).toBeCloseTo(sum, 4);
  });
});

it('normalises by the batch to mean 0 and deviation gamma, in place too', () => {
  const y = x.slice();
  normaliseNeck(y, y, gamma, momentsOf(y, width));
  const { mean, variance } = momentsOf(y, width);
  mean.forEach((value) => expect(value).toBeCloseTo(0, 5));
  variance.forEach((value, c) => expect(Math.sqrt(value)).toBeCloseTo(gamma[c]!, 4));
});
