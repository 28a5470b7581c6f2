import { beforeAll, describe, expect, test } from 'vitest';
import { Rng } from '@ntaa/random';
import { ON_WASM, startTestEngine } from '../../../test/setup/engine.js';
import { batchNorm, lookUp, memory, tf } from './index.js';
import { native } from './native.js';
import {
  affineErrors,
  batchNormErrors,
  convErrors,
  lossErrors,
  matMulErrors,
  poolErrors,
  type ConvCase,
  type Errors,
} from './probe.js';

beforeAll(async () => {
  await startTestEngine();
  expect(native() !== undefined).toBe(ON_WASM);
});

function expectSmall(errors: Errors, limit: number, where = ''): void {
  for (const [name, worst] of Object.entries(errors)) expect(worst, `${name} ${where}`).toBeLessThan(limit);
}

const PADS = ['same', 'valid', 'half', 0, 1] as const;

/** Every kernel size, stride and padding, each with channels and sizes drawn from the odd corners. */
function cases(depthwise: boolean): [string, ConvCase][] {
  const rng = new Rng('conv cases', String(depthwise));
  const list: [string, ConvCase][] = [];
  for (const kernel of [1, 2, 3, 5, 7])
    for (const stride of [1, 2, ...(depthwise ? [] : [3])])
      for (const pad of PADS)
        for (let i = 0; i < 2; i++) {
          const c: ConvCase = {
            batch: 1 + rng.int(2),
            height: kernel + rng.int(6),
            width: kernel + rng.int(11),
            inChannels: 1 + rng.int(30),
            outChannels: 1 + rng.int(30),
            pad: pad === 'half' ? kernel >> 1 : pad,
            ...{ kernel, stride, depthwise },
          };
          list.push([Object.values(c).join(' '), c]);
        }
  return list;
}

describe.each([false, true])(
  'convolution and its gradients equal float64 loops, depthwise %s',
  (depthwise) => {
    const all = cases(depthwise);
    test.each([...new Set(all.map(([, c]) => c.kernel))])('kernel %d', (kernel) => {
      for (const [name, c] of all)
        if (c.kernel === kernel) expectSmall(convErrors(c, new Rng(name)), 3e-6, name);
    });
  },
);

test('3x3 on colours, whose patches are copied whole', () => {
  for (const stride of [1, 2])
    for (const pad of [0, 1, 'same', 'valid'] as const)
      for (const [height, width] of [
        [3, 3],
        [4, 9],
        [17, 32],
      ] as const) {
        const c = {
          batch: 2,
          height,
          width,
          inChannels: 3,
          outChannels: 16,
          kernel: 3,
          stride,
          pad,
          depthwise: false,
        };
        expectSmall(convErrors(c, new Rng('colours')), 3e-6, Object.values(c).join(' '));
      }
});

test('bytes looked up are what they are in double precision, rounded once', () => {
  const bytes = Uint8Array.from({ length: 2 * 3 * 3 * 3 }, (_, i) => (i * 37) % 256);
  const [mean, std] = [
    [0.485, 0.456, 0.406],
    [0.229, 0.224, 0.225],
  ];
  const value = (channel: number, byte: number) => (byte / 255 - mean[channel]!) / std[channel]!;
  const tables = Float32Array.from({ length: 768 }, (_, i) => value(i >> 8, i & 255));
  const images = lookUp(bytes, tables, [2, 3, 3, 3]);
  expect(images.dataSync()).toEqual(Float32Array.from(bytes, (byte, i) => value(i % 3, byte)));
  images.dispose();
  expect(() => lookUp(bytes, tables, [1, 3, 3, 3])).toThrow(
    /54 bytes and 768 values are not images of 1,3,3,3/,
  );
});

test('every channel count from 1 to 36', () => {
  for (let channels = 1; channels <= 36; channels++) {
    const size = { batch: 2, height: 6, width: 9, inChannels: channels, outChannels: 37 - channels };
    const rng = new Rng('channels', channels);
    expectSmall(convErrors({ ...size, kernel: 1, stride: 1, pad: 0, depthwise: false }, rng), 3e-6);
    expectSmall(convErrors({ ...size, kernel: 3, stride: 1, pad: 1, depthwise: true }, rng), 3e-6);
    expectSmall(convErrors({ ...size, kernel: 5, stride: 2, pad: 2, depthwise: true }, rng), 3e-6);
  }
});

test('sizes beyond one block of rows', () => {
  const rng = new Rng('large');
  const size = { batch: 3, height: 33, width: 31, inChannels: 19, outChannels: 41 };
  expectSmall(convErrors({ ...size, kernel: 1, stride: 1, pad: 0, depthwise: false }, rng), 1e-5);
  expectSmall(convErrors({ ...size, kernel: 3, stride: 2, pad: 1, depthwise: false }, rng), 1e-5);
  expectSmall(
    convErrors({ ...size, inChannels: 50, kernel: 7, stride: 1, pad: 3, depthwise: true }, rng),
    1e-5,
  );
  expectSmall(batchNormErrors([3, 33, 31, 19], 'relu', rng), 1e-4);
});

describe('batch norm and affine with each activation', () => {
  for (const activation of ['linear', 'relu', 'hswish'] as const)
    for (const channels of [1, 2, 3, 4, 7, 8, 13, 16, 30])
      test(`${activation} ${channels}`, () => {
        const rng = new Rng('norm', activation, channels);
        expectSmall(batchNormErrors([3, 5, 7, channels], activation, rng), 4e-5);
        expectSmall(affineErrors([3, 5, 7, channels], activation, rng), 4e-5);
      });
});

test('batch norm keeps its precision far from zero', () => {
  tf.tidy(() => {
    const rng = new Rng('far');
    const values = Float32Array.from({ length: 4096 }, () => 1000 + rng.normal());
    const exact = values.reduce((sum, v) => sum + v, 0) / values.length;
    const spread = values.reduce((sum, v) => sum + (v - exact) ** 2, 0) / values.length;
    const x = tf.tensor4d(values, [4, 32, 32, 1]);
    const { variance } = batchNorm(x, tf.ones([1]), tf.zeros([1]), { epsilon: 1e-5, activation: 'linear' });
    expect(Math.abs((variance.dataSync()[0] as number) / spread - 1)).toBeLessThan(1e-5);
  });
});

test('matrix products with every transposition', () => {
  const rng = new Rng('matmul');
  for (let i = 0; i < 40; i++)
    expectSmall(matMulErrors([1 + rng.int(200), 1 + rng.int(40), 1 + rng.int(40)], rng), 3e-6);
});

test('softmax cross entropy and pooling', () => {
  const rng = new Rng('loss');
  for (let i = 0; i < 20; i++) {
    expectSmall(lossErrors([1 + rng.int(9), 1 + rng.int(30)], rng), 1e-5);
    expectSmall(poolErrors([1 + rng.int(3), 1 + rng.int(7), 1 + rng.int(7), 1 + rng.int(30)], rng), 3e-6);
  }
});

test('kernels and gradients leave no tensor behind', () => {
  const before = memory();
  const rng = new Rng('leak');
  convErrors(
    {
      batch: 2,
      height: 5,
      width: 5,
      inChannels: 3,
      outChannels: 4,
      kernel: 3,
      stride: 2,
      pad: 1,
      depthwise: false,
    },
    rng,
  );
  batchNormErrors([2, 3, 3, 4], 'relu', rng);
  lossErrors([3, 4], rng);
  expect(memory()).toEqual(before);
});
