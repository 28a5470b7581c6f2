import { describe, expect, it } from 'vitest';
import { classification } from './classification.js';

describe('classification', () => {
  it('smooths targets to probabilities', () => {
    const targets = classification.targets(Int32Array.of(1), 4);
    expect([...targets].map((t) => Math.round(t * 1000) / 1000)).toEqual([0.025, 0.925, 0.025, 0.025]);
  });

  it('computes losses and accuracies by hand-checked values', () => {
    const logits = Float32Array.of(2, 0, 0, /**/ 0, 1, 3, /**/ 1000, 0, 0, /**/ 0, 5, 0);
    const labels = Int32Array.of(0, 1, 0, 1);
    const metrics = classification.metrics(logits, labels, 3);
    expect(metrics.top1).toBe(0.75);
    expect(metrics.top5).toBe(1);
    expect(metrics.balanced_accuracy).toBe((2 / 2 + 1 / 2) / 2);
    const losses = [
      Math.log(Math.exp(2) + 2) - 2,
      Math.log(1 + Math.E + Math.exp(3)) - 1,
      0,
      Math.log(Math.exp(5) + 2) - 5,
    ];
    expect(metrics.loss).toBeCloseTo(losses.reduce((a, b) => a + b) / 4, 5);
  });

  it('gives a constant or broken network nothing', () => {
    expect(classification.metrics(new Float32Array(6), Int32Array.of(0, 1), 3).top1).toBe(0);
    expect(classification.metrics(new Float32Array(6).fill(NaN), Int32Array.of(0, 1), 3).top1).toBe(0);
  });
});
