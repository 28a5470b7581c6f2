import type { Genotype, SearchSpace } from '@ntaa/contracts';
import { batchNorm, memory, tf } from '@ntaa/engine';
import {
  decode,
  genes,
  largest,
  parseCanonical,
  restrictResolutions,
  smallest,
  tinySpace,
  units,
} from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import fc from 'fast-check';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startTestEngine } from '../../../test/setup/engine.js';
import {
  BnStatistics,
  calibrate,
  extract,
  fold,
  readSafetensors,
  runStatic,
  Supernet,
  writeSafetensors,
} from './index.js';

/** Small enough for hundreds of runs; three kernel sizes, a stage of stride 1, both activations. */
const smallSpace: SearchSpace = {
  name: 'small',
  resolutions: [9, 12],
  stem: { width: 4, stride: 1, activation: 'hswish' },
  stages: [
    {
      width: 4,
      stride: 1,
      activation: 'relu',
      minDepth: 1,
      blocks: [
        { kernels: [3, 5, 7], expands: [1, 2, 3] },
        { kernels: [3, 5], expands: [2, 3] },
      ],
    },
    {
      width: 6,
      stride: 2,
      activation: 'hswish',
      minDepth: 1,
      blocks: [1, 2].map(() => ({ kernels: [3, 5], expands: [2, 4] })),
    },
  ],
  head: { width: 10, activation: 'hswish' },
};
const OUTPUTS = 3;

const genotypes = (space: SearchSpace) =>
  fc.tuple(...genes(space).map((g) => fc.nat(g.choices.length - 1))).map((genome) => decode(space, genome));

function images(genotype: Genotype, seed: string | number, count = 5): tf.Tensor4D {
  const rng = new Rng('images', seed);
  const { resolution } = genotype;
  const values = Float32Array.from({ length: count * resolution ** 2 * 3 }, () => rng.normal());
  return tf.tensor4d(values, [count, resolution, resolution, 3]);
}

/** A network whose transforms, batch norms and biases are not at their special initial values. */
function trainedLike(space: SearchSpace, seed: string | number): Supernet {
  const net = Supernet.initialise(space, OUTPUTS, new Rng('net', seed));
  const rng = new Rng('noise', seed);
  const noisy = new Map(
    [...net.tensors()].map(([name, { shape, data }]) => {
      const noise = name.startsWith('classifier') ? 1 : 0.2;
      return [name, { shape, data: data.map((x) => x + noise * rng.normal()) }];
    }),
  );
  net.dispose();
  return Supernet.load(space, noisy, OUTPUTS, rng);
}

function difference(a: tf.Tensor, b: tf.Tensor): number {
  return tf.tidy(() => tf.max(tf.abs(tf.sub(a, b))).dataSync()[0]!);
}

beforeAll(async () => {
  await startTestEngine();
});

let tensorsBefore = 0;
beforeEach(() => {
  tensorsBefore = memory().tensors;
});
afterEach(() => {
  expect(memory().tensors, 'leaked tensors').toBe(tensorsBefore);
});

describe('a supernet', () => {
  it('has shapes and names that follow its space', () => {
    const net = Supernet.initialise(tinySpace, 10, new Rng(1));
    const tensors = net.tensors();
    expect(tensors.get('stages.1.blocks.0.expand.weight')!.shape).toEqual([1, 1, 16, 64]);
    expect(tensors.get('stages.1.blocks.0.depthwise.weight')!.shape).toEqual([5, 5, 64, 1]);
    expect(tensors.get('stages.1.blocks.0.depthwise.5to3')!.shape).toEqual([9, 9]);
    expect(tensors.get('classifier.weight')!.shape).toEqual([128, 10]);
    for (const { name, variable, weightDecay, lrScale } of net.params()) {
      expect(name).toMatch(/^(stem|stages\.\d\.blocks\.\d|head|classifier)\./);
      expect(variable.shape).toEqual(tensors.get(name)!.shape);
      expect(weightDecay).toBe(name.endsWith('.weight') ? 1 : 0);
      expect(lrScale).toBe(1);
    }
    net.dispose();
  });

  it('is the same for the same seed, and of the expected scale', () => {
    const bytes = (seed: number) => {
      const net = Supernet.initialise(tinySpace, 10, new Rng(seed));
      const written = writeSafetensors(net.tensors(), {});
      net.dispose();
      return Buffer.from(written);
    };
    expect(bytes(1).equals(bytes(1))).toBe(true);
    expect(bytes(1).equals(bytes(2))).toBe(false);
    const head = readSafetensors(bytes(1)).tensors.get('head.weight')!.data;
    const variance = head.reduce((sum, w) => sum + w * w, 0) / head.length;
    expect(variance / (2 / 128)).toBeCloseTo(1, 1);
  });

  it('starts with small kernels that are the centre of the large ones', () => {
    const net = Supernet.initialise(smallSpace, OUTPUTS, new Rng(1));
    const genotype = parseCanonical('small@9_k3e1_k3e2');
    const layer = units(smallSpace, genotype)[1]!.layers[1]!;
    tf.tidy(() => {
      const centre = tf.slice(
        net.active('stages.0.blocks.0.depthwise.weight', [7, 7, 4, 1]),
        [2, 2, 0, 0],
        [3, 3, 4, 1],
      );
      expect(difference(net.activeWeight(layer), centre)).toBe(0);
    });
    net.dispose();
  });

  it('chains the kernel transforms: 7 to 5 to 3, each over the flattened centre, the same for every channel', () => {
    const net = trainedLike(smallSpace, 9);
    const of = (name: string) => net.tensors().get(`stages.0.blocks.0.depthwise.${name}`)!.data;
    const shrink = (kernel: number[], matrix: Float32Array, size: number): number[] => {
      const centre = kernel.filter((_, i) => {
        const [row, column] = [Math.floor(i / size), i % size];
        return row > 0 && row < size - 1 && column > 0 && column < size - 1;
      });
      return centre.map((_, to) =>
        centre.reduce((sum, value, from) => sum + matrix[to * centre.length + from]! * value, 0),
      );
    };
    const channel = 5;
    const seven = [...of('weight')].filter((_, i) => i % 12 === channel);
    const three = shrink(shrink(seven, of('7to5'), 7), of('5to3'), 5);
    const layer = units(smallSpace, parseCanonical('small@9_k3e2_k3e2'))[1]!.layers[1]!;
    const active = tf.tidy(() => [...net.activeWeight(layer).dataSync()]);
    expect(active.length).toBe(9 * 8);
    three.forEach((expected, tap) => expect(active[tap * 8 + channel]).toBeCloseTo(expected, 5));
    net.dispose();
  });

  it('lets gradients reach exactly the slices that the genotype uses', () => {
    const net = trainedLike(smallSpace, 1);
    const genotype = parseCanonical('small@12_k5e2_k5e2.k3e4');
    const x = images(genotype, 1);
    const variables = net.params().map((p) => p.variable);
    const { value, grads } = tf.variableGrads(
      () => tf.mean(tf.square(net.forward(x, genotype, 'batch').logits)) as tf.Scalar,
      variables,
    );
    const reached = new Set(
      net.params().flatMap(({ name, variable }) => (grads[variable.name] ? [name] : [])),
    );
    const expected = units(smallSpace, genotype)
      .flatMap((unit) => unit.layers)
      .flatMap(({ name }) => [`${name}.weight`, `${name}.bn.gamma`, `${name}.bn.beta`]);
    const transforms = ['stages.0.blocks.0.depthwise.7to5', 'stages.1.blocks.1.depthwise.5to3'];
    expect([...reached].sort()).toEqual(
      [...expected, ...transforms, 'classifier.weight', 'classifier.bias'].sort(),
    );
    const touched = (name: string) => {
      const { variable } = net.params().find((p) => p.name === name)!;
      return grads[variable.name]!;
    };
    // Expansion 2 of 3: the first 8 of 12 channels.
    const expand = touched('stages.0.blocks.0.expand.weight').dataSync();
    expect([...expand].map((g) => g !== 0)).toEqual(Array.from({ length: 48 }, (_, i) => i % 12 < 8));
    // Kernel 5 of 7: the rim has none.
    const depthwise = touched('stages.0.blocks.0.depthwise.weight').dataSync();
    depthwise.forEach((g, i) => {
      const [row, column, channel] = [Math.floor(i / 84), Math.floor(i / 12) % 7, i % 12];
      const inside = row > 0 && row < 6 && column > 0 && column < 6 && channel < 8;
      expect(g !== 0, `row ${row} column ${column} channel ${channel}`).toBe(inside);
    });
    tf.dispose([x, value, ...Object.values(grads)]);
    net.dispose();
  });

  it('refuses foreign genotypes, and statistics of another one', () => {
    const net = trainedLike(smallSpace, 2);
    const x = images(smallest(smallSpace), 2);
    const bn = calibrate(net, smallest(smallSpace), [x]);
    expect(() => net.forward(x, smallest(tinySpace), 'batch')).toThrow(/not an architecture of space small/);
    expect(() => net.forward(x, largest(smallSpace), bn)).toThrow(/calibrate this genotype first/);
    expect(() => calibrate(net, smallest(smallSpace), [])).toThrow(/at least one batch/);
    expect(() => fold(net, bn)).toThrow(/extract one first/);
    x.dispose();
    bn.dispose();
    net.dispose();
  });
});

describe('calibration', () => {
  it('averages the statistics of its batches, each weighted by its images', () => {
    const net = trainedLike(smallSpace, 3);
    const genotype = largest(smallSpace);
    const batches = [images(genotype, 'a', 6), images(genotype, 'b', 2)];
    const bn = calibrate(net, genotype, batches);
    tf.tidy(() => {
      const moments = batches.map((x) => {
        const z = tf.conv2d(
          x,
          net.active('stem.weight', [3, 3, 3, 4]) as tf.Tensor4D,
          1,
          1,
          'NHWC',
          1,
          'floor',
        );
        return batchNorm(z, tf.ones([4]), tf.zeros([4]), { epsilon: 1e-5, activation: 'linear' });
      });
      for (const key of ['mean', 'variance'] as const) {
        const expected = tf.add(tf.mul(moments[0]![key], 0.75), tf.mul(moments[1]![key], 0.25));
        expect(difference(bn.get('stem.bn', 4)[key], expected)).toBeLessThan(5e-6);
      }
    });
    tf.dispose(batches);
    bn.dispose();
    net.dispose();
  });

  it('on one batch repeats what batch statistics gave, and survives saving', () => {
    const net = trainedLike(smallSpace, 4);
    fc.assert(
      fc.property(genotypes(smallSpace), (genotype) => {
        const x = images(genotype, 3);
        const bn = calibrate(net, genotype, [x]);
        const loaded = BnStatistics.load(bn.tensors());
        tf.tidy(() => {
          const batch = net.forward(x, genotype, 'batch');
          const fixed = net.forward(x, genotype, loaded);
          expect(difference(batch.features, fixed.features)).toBeLessThan(1e-4);
          expect(difference(batch.logits, fixed.logits)).toBeLessThan(5e-4);
        });
        x.dispose();
        bn.dispose();
        loaded.dispose();
      }),
      { numRuns: 30 },
    );
    net.dispose();
  });

  it('leaves nothing behind when a batch does not fit', () => {
    const net = trainedLike(smallSpace, 5);
    const good = images(smallest(smallSpace), 1);
    const bad = tf.zeros<tf.Rank.R4>([2, 9, 9, 4]);
    expect(() => calibrate(net, smallest(smallSpace), [good, bad])).toThrow();
    tf.dispose([good, bad]);
    net.dispose();
  });
});

describe.each<[string, SearchSpace, number]>([
  ['small', smallSpace, 60],
  ['tiny', restrictResolutions(tinySpace, [24]), 6],
])('extraction and folding in the %s space', (_, space, numRuns) => {
  it('equals the supernet at that genotype', () => {
    const net = trainedLike(space, 6);
    fc.assert(
      fc.property(genotypes(space), fc.nat(), (genotype, seed) => {
        const x = images(genotype, seed);
        const alone = extract(net, genotype);
        const bn = calibrate(net, genotype, [x]);
        const graph = fold(alone, bn);
        tf.tidy(() => {
          const y = images(genotype, seed + 1);
          for (const mode of ['batch', bn] as const) {
            const [whole, part] = [net.forward(y, genotype, mode), alone.forward(y, genotype, mode)];
            expect(difference(whole.logits, part.logits)).toBe(0);
            expect(difference(whole.features, part.features)).toBe(0);
          }
          const { logits } = net.forward(y, genotype, bn);
          const scale = Math.max(1, tf.max(tf.abs(logits)).dataSync()[0]!);
          expect(difference(runStatic(graph, y), logits) / scale).toBeLessThan(1e-5);
        });
        x.dispose();
        bn.dispose();
        alone.dispose();
      }),
      { numRuns },
    );
    net.dispose();
  });
});

describe('saving and loading', () => {
  it('restores every weight, and only replaces a classifier that does not fit', () => {
    const net = trainedLike(smallSpace, 7);
    const saved = readSafetensors(writeSafetensors(net.tensors(), { space: 'small' }));
    expect(saved.metadata).toEqual({ space: 'small' });
    const same = Supernet.load(smallSpace, saved.tensors, OUTPUTS, new Rng(1));
    const other = Supernet.load(smallSpace, saved.tensors, 7, new Rng(1));
    expect(same.tensors()).toEqual(net.tensors());
    for (const [name, tensor] of other.tensors()) {
      if (name.startsWith('classifier')) expect(tensor.shape.at(-1)).toBe(7);
      else expect(tensor).toEqual(net.tensors().get(name));
    }
    saved.tensors.delete('classifier.bias');
    const headless = Supernet.load(smallSpace, saved.tensors, OUTPUTS, new Rng(1));
    expect(headless.tensors().get('classifier.bias')!.data).toEqual(new Float32Array(OUTPUTS));
    for (const each of [net, same, other, headless]) each.dispose();
  });

  it('names a tensor that is missing or misshapen', () => {
    const net = trainedLike(smallSpace, 8);
    const tensors = net.tensors();
    net.dispose();
    const load = () => Supernet.load(smallSpace, tensors, OUTPUTS, new Rng(1));
    tensors.set('head.weight', { shape: [1, 1, 6, 11], data: new Float32Array(66) });
    expect(load).toThrow('tensor head.weight has shape [1, 1, 6, 11], expected [1, 1, 6, 10]');
    tensors.delete('stem.weight');
    expect(load).toThrow('tensor stem.weight is missing');
  });
});
