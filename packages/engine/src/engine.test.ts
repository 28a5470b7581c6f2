import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { initEngine, memory, tf } from './index.js';

const gpuBinary = (() => {
  try {
    createRequire(import.meta.url).resolve('@tensorflow/tfjs-node-gpu/lib/napi-v8/tfjs_binding.node');
    return true;
  } catch {
    return false;
  }
})();

test.skipIf(gpuBinary)(
  'an engine that is not there fails with the remedy, and another can still be started',
  async () => {
    await expect(initEngine('tensorflow-gpu')).rejects.toThrow(
      /npm run setup:tensorflow -- --gpu/,
    );
    await expect(initEngine('cuda' as never)).rejects.toThrow(/unknown engine cuda: use auto/);
    expect(tf.getBackend()).toBeFalsy();
  },
);

test('the engine starts once and tells why', async () => {
  const info = await initEngine('wasm');
  expect(info).toMatchObject({ kind: 'wasm', reason: 'asked for' });
  expect(info.name).toMatch(/^wasm-(relaxed|simd) 4\.22\.0\+k\d+$/);
  expect(await initEngine()).toBe(info);
  expect(await initEngine('wasm')).toBe(info);
  await expect(initEngine('tensorflow')).rejects.toThrow(/already runs wasm-/);
  expect(memory().tensors).toBe(0);
});

const TRAINING = `
import { createHash } from 'node:crypto';
import { batchNorm, Gradients, initEngine, memory, Sgd, softmaxCrossEntropy, tf } from '@ntaa/engine';
import { Rng } from '@ntaa/random';
await initEngine('wasm');
function train() {
  const rng = new Rng('determinism');
  const normal = (shape) => tf.tensor(Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => rng.normal() * 0.2), shape);
  const shapes = { stem: [3, 3, 3, 10], gamma: [10], beta: [10], deep: [5, 5, 10, 1], project: [1, 1, 10, 7], head: [7, 4] };
  const w = {};
  for (const [name, shape] of Object.entries(shapes)) w[name] = tf.variable(normal(shape), true, name);
  const params = Object.entries(w).map(([name, variable]) => ({ name, variable, weightDecay: 1e-4, lrScale: 1 }));
  const sgd = new Sgd({ momentum: 0.9, nesterov: true, clipNorm: 1 });
  const sums = new Gradients(params);
  const before = memory().tensors;
  for (let step = 0; step < 4; step++) {
    tf.tidy(() => {
      const images = normal([6, 13, 11, 3]);
      const targets = tf.softmax(normal([6, 4]));
      const { grads } = tf.variableGrads(() => {
        const a = batchNorm(tf.conv2d(images, w.stem, 2, 1, 'NHWC', 1, 'floor'), w.gamma, w.beta, { epsilon: 1e-5, activation: 'hswish' });
        const b = tf.conv2d(tf.depthwiseConv2d(a.y, w.deep, 1, 2, 'NHWC', 1, 'floor'), w.project, 1, 'valid');
        return softmaxCrossEntropy(tf.matMul(tf.mean(b, [1, 2]), w.head), targets);
      });
      sums.clear();
      for (const [name, grad] of Object.entries(grads)) sums.add(name, grad);
      sgd.step(params, sums, 0.1);
    });
    if (step > 0 && memory().tensors !== before + params.length) throw new Error('a training step leaks');
  }
  const hash = createHash('sha256');
  for (const { variable } of params) hash.update(new Uint8Array(variable.dataSync().buffer));
  sgd.dispose();
  sums.dispose();
  tf.disposeVariables();
  return hash.digest('hex');
}
console.log(train(), train());
`;

test('training gives the same bytes twice in a process and in two processes', () => {
  const cwd = fileURLToPath(new URL('..', import.meta.url));
  const run = () =>
    execFileSync(process.execPath, ['--input-type=module', '-e', TRAINING], { cwd, encoding: 'utf8' })
      .trim()
      .split(' ');
  const [first, second] = [run(), run()];
  expect(first[0]).toMatch(/^[0-9a-f]{64}$/);
  expect(new Set([...first, ...second]).size).toBe(1);
});
