import type { TargetRow } from './regression.js';

/** Mean cross-entropy of softmax(scale * row) against the targets, nats, over rows [n * outputs]. */
export function crossEntropyOfRows(
  values: Float64Array,
  target: TargetRow,
  scale: number,
  weightOf: (i: number) => number = () => 1,
): number {
  const outputs = target(0).length;
  const n = values.length / outputs;
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const row = values.subarray(i * outputs, (i + 1) * outputs);
    let max = -Infinity;
    for (const value of row) max = Math.max(max, scale * value);
    let total = 0;
    for (const value of row) total += Math.exp(scale * value - max);
    let right = 0;
    target(i).forEach((probability, k) => {
      if (probability > 0) right += probability * row[k]!;
    });
    sum += weightOf(i) * (max + Math.log(total) - scale * right);
  }
  return sum / n;
}
