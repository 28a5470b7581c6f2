import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { TEST_ENGINE } from '../../../test/setup/engine.js';
import { heldBytes, initEngine, memory, tf, type EngineInfo } from './index.js';

const built = existsSync(new URL('../../../.cache/tensorflow', import.meta.url));
const gpu = existsSync('/dev/nvidiactl') || existsSync('/dev/dxg');

test.skipIf(gpu)(
  'an engine that is not there fails with the remedy, and another can still be started',
  async () => {
    await expect(initEngine('tensorflow-gpu')).rejects.toThrow(
      built ? /no NVIDIA GPU here: .* see docs\/engine.md/ : /npm run setup:tensorflow -- --gpu/,
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
  // What it holds covers its tensors.
  const large = tf.zeros([(64 * 2 ** 20) / 4]);
  expect(memory().bytes).toBe(64 * 2 ** 20);
  expect(heldBytes()).toBeGreaterThan(64 * 2 ** 20);
  large.dispose();
});

const cwd = fileURLToPath(new URL('..', import.meta.url));
const node = (code: string) =>
  execFileSync(process.execPath, ['--input-type=module', '-e', code], {
    cwd,
    encoding: 'utf8',
    stdio: 'pipe',
  }).trim();

test.skipIf(gpu)('auto takes what really starts, and says what does not', () => {
  const auto = (before = '') =>
    JSON.parse(
      node(
        `${before} import { initEngine } from '@ntaa/engine'; console.log(JSON.stringify(await initEngine()));`,
      ),
    ) as EngineInfo;
  const passed = built
    ? /no tensorflow-gpu \(no NVIDIA GPU here\)/
    : /no tensorflow-gpu \(no libtensorflow here\)/;
  const first = auto();
  expect(first).toMatchObject({
    kind: 'wasm',
    reason: expect.stringMatching(/^chosen automatically, the f/),
  });
  expect(first.reason).toMatch(passed);
  // As on a processor without SIMD.
  const second = auto('WebAssembly.validate = () => false;');
  expect(second.name).toMatch(built ? /^tensorflow 4/ : /^wasm-stock 4/);
  expect(second.reason).toMatch(passed);
  expect(second.reason).toMatch(/no kernels of our own \(this machine has no WebAssembly SIMD\)/);
});

const TRAINING = `
import { createHash } from 'node:crypto';
import { batchNorm, Gradients, initEngine, memory, Sgd, softmaxCrossEntropy, tf } from '@ntaa/engine';
import { Rng } from '@ntaa/random';
await initEngine('${TEST_ENGINE}');
function train() {
  const rng = new Rng('determinism');
  const normal = (shape) => tf.tensor(Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => rng.normal() * 0.2), shape);
  const shapes = { stem: [3, 3, 3, 10], gamma: [10], beta: [10], deep: [5, 5, 10, 1], project: [1, 1, 10, 7], head: [7, 4] };
  const w = {};
  for (const [name, shape] of Object.entries(shapes)) w[name] = tf.variable(normal(shape), true, name);
  const params = Object.entries(w).map(([name, variable]) => ({ name, variable, weightDecay: 1e-4, lrScale: 1 }));
  const sgd = new Sgd({ momentum: 0.9, nesterov: true, clipNorm: 1 });
  const sums = new Gradients(params);
  // The first step makes what stays: momentum, and on some engines the sums.
  let after;
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
    after ??= memory().tensors;
    if (memory().tensors !== after) throw new Error('a training step leaks');
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
  const run = () => node(TRAINING).split(' ');
  const [first, second] = [run(), run()];
  expect(first[0]).toMatch(/^[0-9a-f]{64}$/);
  expect(new Set([...first, ...second]).size).toBe(1);
});
