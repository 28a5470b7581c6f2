import type { Sample, Splits } from '@ntaa/data';
import { Rng } from '@ntaa/random';
import type { Loss } from '@ntaa/supernet';
import { describe, expect, it } from 'vitest';
import { ageEstimation } from './age-estimation.js';
import { domainAdaptation } from './domain-adaptation.js';
import { genderRecognition } from './gender-recognition.js';
import { reIdentification } from './re-identification.js';
import { sliceColumns, slicesOf } from './slices.js';
import { batchHardTriplet } from './triplet.js';

const normals = (length: number, scale: number, ...seed: (string | number)[]) => {
  const rng = new Rng('losses', ...seed);
  return Float32Array.from({ length }, () => scale * rng.normal());
};

/** Gradients against central differences of the loss itself. */
function check(loss: Loss, n: number, outputs: number, width: number, scale = 1): void {
  const logits = normals(n * outputs, scale, 'logits');
  const features = normals(n * width, 1, 'features');
  const at = loss({ n, logits, features });
  const slope = (values: Float32Array, i: number) => {
    const step = 1e-3;
    const sides = [step, -step].map((by) => {
      const kept = values[i]!;
      values[i] = kept + by;
      const { loss: value } = loss({ n, logits, features });
      values[i] = kept;
      return value;
    }) as [number, number];
    return (sides[0] - sides[1]) / (2 * step);
  };
  const near = (value: number, expected: number, name: string) =>
    expect(Math.abs(value - expected), name).toBeLessThan(1e-3 * (1 + Math.abs(expected)));
  at.logits.forEach((value, i) => near(value, slope(logits, i), `logit ${i}`));
  at.features?.forEach((value, i) => near(value, slope(features, i), `feature ${i}`));
}

const batch = (labels: number[], outputs: number, more: object = {}) => ({
  ...{ labels: Float32Array.from(labels), outputs, unlabelled: false, progress: 1 },
  ...more,
});

describe('losses have the gradients that finite differences have', () => {
  it('of ages', () => check(ageEstimation.objective(batch([3, 41.5, 100, 118], 101)), 4, 101, 1));
  it('of ages far off', () => check(ageEstimation.objective(batch([0, 90], 101)), 2, 101, 1, 3));
  it('of identities', () => check(reIdentification.objective(batch([0, 0, 1, 1, 2, 2], 5)), 6, 5, 4));
  it('of unlabelled images, but for the weights, which count as constants', () => {
    const loss = domainAdaptation.objective(batch([NaN, NaN, NaN], 3, { unlabelled: true })) as Loss;
    // Equal certainty everywhere: rotations of one row.
    const logits = Float32Array.of(2, 0.5, -1, /**/ -1, 2, 0.5, /**/ 0.5, -1, 2);
    const { logits: gradient, loss: before } = loss({ n: 3, logits, features: new Float32Array(3) });
    const moved = logits.map((value, i) => value - 0.5 * gradient[i]!);
    expect(loss({ n: 3, logits: moved, features: new Float32Array(3) }).loss).toBeLessThan(before);
    expect(gradient.reduce((a, b) => a + b)).toBeCloseTo(0, 6);
  });
});

describe('the losses themselves', () => {
  it('triplets: farthest of the class against nearest of another, by hand', () => {
    const features = Float32Array.of(0, 1, 3); // one value each: classes a a b
    const { loss } = batchHardTriplet(features, [0, 0, 1], 0.3);
    // |0-1| - |0-3| + 0.3 < 0; |1-0| - |1-3| + 0.3 < 0; the third has none of its class.
    expect(loss).toBe(0);
    const close = batchHardTriplet(Float32Array.of(0, 1, 1.5), [0, 0, 1], 0.3);
    expect(close.loss).toBeCloseTo((0 + (1 - 0.5 + 0.3)) / 2, 5);
  });

  it('confusion: certain and varied answers have none, uniform ones much; most is made of it early on', () => {
    const of = (progress: number, ...logits: number[]) => {
      const loss = domainAdaptation.objective(batch([NaN, NaN], 2, { unlabelled: true, progress })) as Loss;
      return loss({ n: 2, logits: Float32Array.from(logits), features: new Float32Array(2) }).loss;
    };
    expect(of(0.2, 90, 0, 0, 90)).toBeCloseTo(0, 4);
    const uniform = [0, 0.1, 0.2, 0.3, 0.4, 0.7, 1].map((progress) => of(progress, 0, 0, 0, 0));
    [0, 0.5, 1, 0.65, 0.3, 0.3, 0.3].forEach((weight, i) => expect(uniform[i]).toBeCloseTo(weight / 2, 4));
  });

  it('genders weigh the same however many images they have', () => {
    const samples = [...'mmmf'].map((gender) => ({ gender }) as unknown as Sample);
    const splits: Splits = { train: [0, 1, 2, 3], validation: [], test: [] };
    const { labels, classWeights } = genderRecognition.targets(samples, [], splits);
    expect(labels).toEqual(['f', 'm']);
    expect(classWeights).toEqual([2, 2 / 3]);
    const targets = genderRecognition.objective(batch([0, 1], 2, { classWeights }));
    expect([...targets].map((t) => t.toFixed(4))).toEqual(['1.9000', '0.1000', '0.0333', '0.6333']);
    const one = splits.train.map(() => ({ gender: 'm' }) as unknown as Sample);
    expect(() => genderRecognition.targets(one, [], splits)).toThrow(/every image has the gender "m"/);
  });
});

it('ages: expectations, errors and the constant answer by hand', () => {
  const logits = new Float32Array(2 * 101).fill(-50);
  logits[30] = 50; // 30 years
  logits[101 + 40] = logits[101 + 60] = 50; // 50 years
  const truth = { labels: Float32Array.of(33, 40), guess: 37 };
  const metrics = ageEstimation.metrics(logits, truth);
  expect(metrics.mae).toBeCloseTo((3 + 10) / 2, 4);
  expect(metrics).toMatchObject({ cs5: 0.5, constant_mae: 3.5, images: 2 });
  const same = [1, 2].map(() => ({ age: 4 }) as unknown as Sample);
  expect(() => ageEstimation.targets(same, [], { train: [0, 1], validation: [], test: [] })).toThrow(
    expect.objectContaining({ code: 'degenerate-target' }),
  );
});

it('domain adaptation ranks without labels and refuses who forgets the source', () => {
  const record = (source_top1: number, information: number, density: number) => ({
    metrics: { source_top1, information, density },
  });
  const [a, b, c] = domainAdaptation.rescore([record(0.9, 1, 1), record(0.89, 2, 2), record(0.5, 3, 3)]) as [
    number,
    number,
    number,
  ];
  expect(b).toBeGreaterThan(a);
  expect(c).toBeLessThan(0);
});

it('slices tell who is served worse, with intervals, and never by identity', () => {
  const samples = [
    { age: 5, skin: 'dark' },
    { age: 7, skin: 'light' },
    { age: 85, skin: 'dark' },
  ].map(
    ({ age, skin }, i) =>
      ({ age, identity: `p${i}`, gender: 'mf'[i % 2], attributes: { skin } }) as unknown as Sample,
  );
  const columns = sliceColumns(samples, 'gender');
  expect(columns.map(({ name, values }) => [name, values])).toEqual([
    ['age_band', ['00-09', '80+']],
    ['skin', ['dark', 'light']],
  ]);
  const slices = slicesOf(columns, [0, 1, 2], { right: [true, true, false] });
  expect(slices.find(({ value }) => value === 'dark')).toMatchObject({ images: 2, accuracy: 0.5 });
  expect(slices.find(({ value }) => value === '80+')!.accuracy_interval[1]).toBeGreaterThan(0.7);
});

it('batches of identities: P x K, other cameras first, everybody once before anybody twice', () => {
  const images = Array.from({ length: 60 }, (_, i) => i);
  const targets = {
    labels: [],
    labelOf: Float32Array.from(images, (i) => Math.floor(i / 6)),
    cameraOf: Int32Array.from(images, (i) => Math.floor(i / 2) % 3),
  };
  const draw = reIdentification.sampler({ indices: images, targets, batchSize: 20, path: [1] });
  const seen: number[] = [];
  for (let step = 0; step < 4; step++) {
    const drawn = draw(step);
    expect(drawn).toHaveLength(20);
    for (let p = 0; p < 5; p++) {
      const four = [...drawn.slice(4 * p, 4 * p + 4)];
      expect(new Set(four.map((i) => targets.labelOf[i])).size).toBe(1);
      expect(new Set(four.slice(0, 3).map((i) => targets.cameraOf[i])).size).toBe(3);
      seen.push(targets.labelOf[four[0]!]!);
    }
    expect([...draw(step)]).toEqual([...drawn]);
  }
  expect(new Set(seen.slice(0, 10)).size).toBe(10);
});
