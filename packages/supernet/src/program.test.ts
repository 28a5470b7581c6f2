import type { Genotype, SearchSpace } from '@ntaa/contracts';
import { Gradients, memory, native, tf } from '@ntaa/engine';
import { decode, genes, inputSize, largest, restrictResolutions, tinySpace } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import fc from 'fast-check';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ON_WASM, startTestEngine } from '../../../test/setup/engine.js';
import { BnCollector, calibrate, type BnStatistics } from './batch-norm.js';
import { lossGradients, lossGradientsTaped, type Loss } from './loss-gradients.js';
import { Supernet } from './supernet.js';

/** Three kernel sizes, both activations, stages of stride 1 and 2, a residual unit right after the stem, odd sizes. */
const oddSpace: SearchSpace = {
  name: 'odd',
  resolutions: [5, 9, 12, 17],
  stem: { width: 5, stride: 1, activation: 'hswish' },
  stages: [
    {
      width: 5,
      stride: 1,
      activation: 'hswish',
      minDepth: 1,
      blocks: [
        { kernels: [3, 5, 7], expands: [1, 2, 3] },
        { kernels: [3, 5], expands: [2, 4] },
      ],
    },
    {
      width: 6,
      stride: 2,
      activation: 'relu',
      minDepth: 1,
      blocks: [1, 2, 3].map(() => ({ kernels: [3, 5], expands: [2, 3, 7] })),
    },
  ],
  head: { width: 11, activation: 'hswish' },
};
const OUTPUTS = 3;

const genotypes = (space: SearchSpace) =>
  fc.tuple(...genes(space).map((g) => fc.nat(g.choices.length - 1))).map((genome) => decode(space, genome));

function draw(shape: number[], ...seed: (string | number)[]): Float32Array {
  const rng = new Rng('draw', ...seed);
  return Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => rng.normal());
}

function images(space: SearchSpace, genotype: Genotype, count: number, seed: string | number): tf.Tensor4D {
  const { width, height } = inputSize(space, genotype);
  const shape: [number, number, number, number] = [count, height, width, 3];
  return tf.tensor4d(draw(shape, seed), shape);
}

function targets(count: number, seed: string | number): tf.Tensor2D {
  return tf.tidy(() => tf.softmax(tf.tensor2d(draw([count, OUTPUTS], 'targets', seed), [count, OUTPUTS])));
}

/**
 * A network whose transforms, batch norms and biases are not at their special initial values. With `smooth`, what enters
 * an activation stays away from where its slope jumps: there, rounding decides between two rather different gradients.
 */
function trainedLike(space: SearchSpace, seed: string | number, smooth = false): Supernet {
  const net = Supernet.initialise(space, OUTPUTS, new Rng('net', seed));
  const rng = new Rng('noise', seed);
  const value = (name: string, x: number) => {
    if (smooth && name.endsWith('.bn.gamma')) return 0.2 + 0.1 * rng.uniform();
    if (smooth && name.endsWith('.bn.beta')) return rng.uniform() < 0.3 ? -8 : 8;
    return x + 0.2 * rng.normal();
  };
  const noisy = new Map(
    [...net.tensors()].map(([name, { shape, data }]) => [
      name,
      { shape, data: data.map((x) => value(name, x)) },
    ]),
  );
  net.dispose();
  return Supernet.load(space, noisy, OUTPUTS, rng);
}

interface Result {
  loss: number;
  logits: Float32Array;
  /** All of them, one after another. */
  gradients: Float32Array;
  /** Names of those that were given one. */
  touched: string[];
}

type Method = typeof lossGradients;

/** A loss that is no cross-entropy: squares of logits and of features. */
const squares: Loss = ({ n, logits, features }) => {
  const energy = (values: Float32Array) => values.reduce((sum, value) => sum + value ** 2, 0) / (2 * n);
  return {
    loss: energy(logits) + 3 * energy(features),
    logits: logits.map((value) => value / n),
    features: features.map((value) => (3 * value) / n),
  };
};

function run(
  method: Method,
  net: Supernet,
  genotype: Genotype,
  count: number,
  seed: number,
  objective?: Loss,
  bn?: BnStatistics,
): Result {
  const [x, t] = [images(net.space, genotype, count, seed), targets(count, seed)];
  const sums = new Gradients(net.params());
  const { loss, logits } = method(net, genotype, x, objective ?? t, sums, { bn });
  const gradients = new Float32Array(sums.size);
  sums.copyTo(gradients);
  const touched = net.params().flatMap(({ name }) => (sums.has(name) ? [name] : []));
  const values = Float32Array.from(logits.dataSync());
  tf.dispose([x, t, logits]);
  sums.dispose();
  return { loss, logits: values, gradients, touched };
}

/** Largest difference, relative to the largest value (at least `floor`). */
function difference(a: Float32Array, b: Float32Array, floor = 1e-2): number {
  let [worst, scale] = [0, floor];
  a.forEach((value, i) => {
    worst = Math.max(worst, Math.abs(value - b[i]!));
    scale = Math.max(scale, Math.abs(b[i]!));
  });
  return a.length === b.length && a.every(Number.isFinite) ? worst / scale : Infinity;
}

const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

beforeAll(async () => {
  await startTestEngine();
  expect(native() !== undefined).toBe(ON_WASM);
});

let tensorsBefore = 0;
beforeEach(() => {
  tensorsBefore = memory().tensors;
});
afterEach(() => {
  expect(memory().tensors, 'leaked tensors').toBe(tensorsBefore);
});

describe.each<[string, SearchSpace, number]>([
  ['odd', oddSpace, 60],
  ['odd, without a head convolution,', { ...oddSpace, head: { width: 6 } }, 30],
  ['odd, with a neck,', { ...oddSpace, head: { ...oddSpace.head, neck: true } }, 20],
  ['odd, taller than wide,', { ...oddSpace, aspect: 1.7 }, 30],
  ['tiny', restrictResolutions(tinySpace, [24]), 6],
])('a compiled architecture of the %s space', (_, space, numRuns) => {
  // A neck enlarges differences between features that hardly differ, rounding included; of one image none differ.
  const counts = space.head.neck ? [4, 16] : [1, 3, 16];
  // How much, no bound holds for every draw: there they are always the same.
  const runs = { numRuns, ...(space.head.neck && { seed: 1 }) };

  it.each([false, true])('has the loss, logits and gradients of TensorFlow.js, smooth %s', (smooth) => {
    const net = trainedLike(space, 1, smooth);
    const objectives = fc.constantFrom(undefined, squares);
    const drawn = [genotypes(space), fc.constantFrom(...counts), fc.nat(1000), objectives] as const;
    fc.assert(
      fc.property(...drawn, (genotype, count, seed, objective) => {
        const [ours, theirs] = [lossGradients, lossGradientsTaped].map((method) =>
          run(method, net, genotype, count, seed, objective),
        ) as [Result, Result];
        const close = space.head.neck ? 2e-3 : 1e-4;
        expect(Math.abs(ours.loss / theirs.loss - 1)).toBeLessThan(close);
        expect(difference(ours.logits, theirs.logits)).toBeLessThan(close);
        expect(ours.touched).toEqual(theirs.touched);
        const [a, b] = [ours.gradients, theirs.gradients];
        expect(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))).toBeGreaterThan(0.98);
        if (!smooth) return;
        // Gradients that cancel out, as of a shift before another batch norm, are only as exact as what cancels.
        const scale = Math.max(...b.map(Math.abs));
        let at = 0;
        for (const { name, variable } of net.params()) {
          const parts = [a, b].map((all) => all.subarray(at, at + variable.size)) as [
            Float32Array,
            Float32Array,
          ];
          // A loss that pulls all values one way cancels more, and before a neck shifts cancel out: see its own test.
          const exact = space.head.neck ? 0.05 : objective ? 2e-3 : 1e-4;
          const cancels = space.head.neck && name.endsWith('.bn.beta');
          if (!cancels) expect(difference(...parts, scale / 10), name).toBeLessThan(exact);
          at += Math.ceil(variable.size / 4) * 4;
        }
      }),
      runs,
    );
    net.dispose();
  });

  it('has them with fixed statistics too', () => {
    const net = trainedLike(space, 4, true);
    fc.assert(
      fc.property(genotypes(space), fc.constantFrom(...counts), fc.nat(1000), (genotype, count, seed) => {
        const x = images(space, genotype, count, seed + 1);
        const bn = calibrate(net, genotype, [x]);
        const [ours, theirs] = [lossGradients, lossGradientsTaped].map((method) =>
          run(method, net, genotype, count, seed, undefined, bn),
        ) as [Result, Result];
        expect(Math.abs(ours.loss / theirs.loss - 1)).toBeLessThan(1e-4);
        expect(ours.touched).toEqual(theirs.touched);
        expect(difference(ours.gradients, theirs.gradients)).toBeLessThan(space.head.neck ? 5e-3 : 1e-3);
        x.dispose();
        bn.dispose();
      }),
      runs,
    );
    net.dispose();
  });

  it('collects the same statistics, and with them has the same features and logits', () => {
    const net = trainedLike(space, 2);
    fc.assert(
      fc.property(genotypes(space), fc.constantFrom(...counts), fc.nat(1000), (genotype, count, seed) => {
        const x = images(space, genotype, count, seed);
        const bn = calibrate(net, genotype, [x]);
        const collector = new BnCollector();
        const batch = net.forwardTaped(x, genotype, collector);
        const theirs = collector.finish();
        const statistics = bn.tensors();
        for (const [name, { data }] of theirs.tensors())
          expect(difference(statistics.get(name)!.data, data), name).toBeLessThan(1e-4);
        const y = images(space, genotype, count, seed + 1);
        const [a, b] = [net.forward(y, genotype, bn), net.forwardTaped(y, genotype, bn)];
        for (const key of ['features', 'logits'] as const) {
          expect(a[key].shape).toEqual(b[key].shape);
          const values = [a, b].map((result) => result[key].dataSync() as Float32Array);
          expect(difference(values[0]!, values[1]!), key).toBeLessThan(space.head.neck ? 5e-4 : 2e-5);
        }
        tf.dispose([x, y, batch, a, b]);
        bn.dispose();
        theirs.dispose();
      }),
      runs,
    );
    net.dispose();
  });
});

it('adds gradients to those that are there', () => {
  const net = trainedLike(oddSpace, 3);
  const genotype = largest(oddSpace);
  const [x, t] = [images(oddSpace, genotype, 4, 1), targets(4, 1)];
  const sums = new Gradients(net.params());
  const values = [1, 2].map(() => {
    lossGradients(net, genotype, x, t, sums).logits.dispose();
    const copy = new Float32Array(sums.size);
    sums.copyTo(copy);
    return copy;
  });
  expect(
    difference(
      values[1]!,
      values[0]!.map((value) => 2 * value),
    ),
  ).toBeLessThan(1e-6);
  tf.dispose([x, t]);
  sums.dispose();
  net.dispose();
});

it('gives the same bits whatever ran before', () => {
  const net = trainedLike(oddSpace, 4);
  const [small, large] = [
    decode(
      oddSpace,
      genes(oddSpace).map(() => 0),
    ),
    largest(oddSpace),
  ];
  const first = run(lossGradients, net, small, 3, 5);
  run(lossGradients, net, large, 16, 6);
  expect(run(lossGradients, net, small, 3, 5)).toEqual(first);
  net.dispose();
});

it.runIf(ON_WASM)('needs no more memory after the largest architecture', () => {
  const net = trainedLike(oddSpace, 5);
  const rng = new Rng('memory');
  const heapBytes = () =>
    (tf.backend() as unknown as { wasm: { HEAPU8: Uint8Array } }).wasm.HEAPU8.byteLength;
  run(lossGradients, net, largest(oddSpace), 16, 1);
  const before = heapBytes();
  for (let step = 0; step < 200; step++) {
    const genotype = decode(
      oddSpace,
      genes(oddSpace).map(({ choices }) => rng.int(choices.length)),
    );
    run(lossGradients, net, genotype, 16, step);
  }
  expect(heapBytes()).toBe(before);
  net.dispose();
});

it.runIf(ON_WASM)('refuses images and targets of other shapes', () => {
  const net = trainedLike(oddSpace, 6);
  const genotype = largest(oddSpace);
  const sums = new Gradients(net.params());
  const [gray, x, t] = [tf.zeros<tf.Rank.R4>([2, 9, 9, 1]), images(oddSpace, genotype, 2, 1), targets(3, 1)];
  expect(() => lossGradients(net, genotype, gray, t, sums)).toThrow(/images have shape \[2, 9, 9, 1\]/);
  expect(() => lossGradients(net, genotype, x, t, sums)).toThrow(/targets have shape \[3, 3\], not \[2, 3\]/);
  tf.dispose([gray, x, t]);
  sums.dispose();
  net.dispose();
});
