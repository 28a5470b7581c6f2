import { expect, test } from 'vitest';
import { Rng } from '@ntaa/random';
import { affine, batchNorm, tf } from './index.js';
import { connect } from './heap.js';
import { native } from './native.js';
import { affineErrors, batchNormErrors, convErrors, lossErrors, matMulErrors, poolErrors } from './probe.js';
import { startWasm } from './wasm.js';

test('a failing probe leaves stock kernels, says so once, and everything still computes', async () => {
  const warnings: Error[] = [];
  process.on('warning', (warning) => void warnings.push(warning));
  await import(new URL('../generated/gradients.mjs', import.meta.url).href);
  const info = await startWasm('test', () => 'the probe was told to fail');
  await new Promise((resolve) => setImmediate(resolve));
  expect(info).toMatchObject({ kind: 'wasm', name: 'wasm-stock 4.22.0' });
  expect(info.reason).toContain('told to fail');
  expect(warnings.filter((w) => w.message.includes('told to fail'))).toHaveLength(1);
  expect(native()).toBeUndefined();

  const rng = new Rng('fallback');
  const errors = [];
  for (const stride of [1, 2])
    for (const pad of ['same', 'valid', 1, 2] as const)
      for (const depthwise of [false, true]) {
        const size = { batch: 2, height: 7, width: 8, inChannels: 3, outChannels: 4, kernel: 3 };
        errors.push(convErrors({ ...size, stride, pad, depthwise }, rng));
      }
  for (const activation of ['linear', 'relu', 'hswish'] as const)
    errors.push(batchNormErrors([2, 3, 4, 5], activation, rng), affineErrors([2, 3, 4, 5], activation, rng));
  errors.push(matMulErrors([5, 6, 7], rng), lossErrors([4, 5], rng), poolErrors([2, 3, 4, 5], rng));
  for (const [name, worst] of errors.flatMap((e) => Object.entries(e)))
    expect(worst, name).toBeLessThan(1e-4);
});

test('an unknown backend is refused with the reason', () => {
  expect(() => connect({})).toThrow(/memory/);
  expect(() => connect({ wasm: { asm: { memory: new WebAssembly.Memory({ initial: 1 }) } } })).toThrow(
    /private fields/,
  );
});

test('batch norm of the fallback is the affine map of its own statistics', () => {
  tf.tidy(() => {
    const x = tf.randomNormal<tf.Rank.R4>([2, 4, 4, 3], 1, 2, 'float32', 1);
    const { y, mean, variance } = batchNorm(x, tf.ones([3]), tf.zeros([3]), {
      epsilon: 0,
      activation: 'linear',
    });
    const scale = tf.rsqrt(variance);
    const again = affine(x, scale, tf.neg(tf.mul(mean, scale)), 'linear');
    expect(tf.max(tf.abs(tf.sub(y, again))).dataSync()[0]).toBeLessThan(1e-5);
  });
});
