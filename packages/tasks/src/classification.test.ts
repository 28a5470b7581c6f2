import { describe, expect, it } from 'vitest';
import { classification } from './classification.js';

const metrics = (logits: Float32Array, labels: number[]) =>
  classification.metrics(logits, { labels: Float32Array.from(labels) });

describe('classification', () => {
  it('smooths targets to probabilities', () => {
    const batch = { labels: Float32Array.of(1), outputs: 4, unlabelled: false, progress: 0 };
    const targets = classification.objective(batch);
    expect([...targets].map((t) => Math.round(t * 1000) / 1000)).toEqual([0.025, 0.925, 0.025, 0.025]);
  });

  it('computes losses, accuracies, confusion and calibration by hand-checked values', () => {
    const logits = Float32Array.of(2, 0, 0, /**/ 0, 1, 3, /**/ 1000, 0, 0, /**/ 0, 5, 0);
    const measured = metrics(logits, [0, 1, 0, 1]);
    expect(measured.top1).toBe(0.75);
    expect(measured.top5).toBe(1);
    expect(measured.balanced_accuracy).toBe((2 / 2 + 1 / 2) / 2);
    const losses = [
      Math.log(Math.exp(2) + 2) - 2,
      Math.log(1 + Math.E + Math.exp(3)) - 1,
      0,
      Math.log(Math.exp(5) + 2) - 5,
    ];
    expect(measured.loss).toBeCloseTo(losses.reduce((a, b) => a + b) / 4, 5);
    expect(measured.confusion).toEqual([
      [2, 0, 0],
      [0, 1, 1],
      [0, 0, 0],
    ]);
    // Confidences .787 and .844 (wrong) lie in bins 11 and 12; 1 and .987 share the last one.
    const [a, b, c] = [Math.exp(2) / (Math.exp(2) + 2), Math.exp(3) / (1 + Math.E + Math.exp(3)), Math.exp(5) / (Math.exp(5) + 2)]; // prettier-ignore
    expect(measured.ece).toBeCloseTo((1 - a + b + (1 - c)) / 4, 5);
  });

  it('gives a constant or broken network nothing', () => {
    expect(metrics(new Float32Array(6), [0, 1]).top1).toBe(0);
    expect(metrics(new Float32Array(6).fill(NaN), [0, 1]).top1).toBe(0);
  });
});
