// Speed of each training kernel on the reference network's shapes at batch 64: the best of many runs, in GFLOP/s for
// convolutions and GB/s (of data that must move) for batch norm.
// node bench/kernels.mjs [PART OF A NAME]
import { batchNorm, initEngine, tf } from '@ntaa/engine';

const engine = await initEngine('wasm');
const only = process.argv[2] ?? '';
const results = {};

function best(name, work, unit, f) {
  if (!name.includes(only)) return;
  let fastest = Infinity;
  const start = performance.now();
  for (let runs = 0; runs < 5 || performance.now() - start < 500; runs++) {
    const before = performance.now();
    tf.tidy(() => void f());
    fastest = Math.min(fastest, performance.now() - before);
  }
  results[name] = Math.round(work / fastest / 1e5) / 10;
  console.log(
    `${name.padEnd(36)} ${fastest.toFixed(2).padStart(7)} ms ${String(results[name]).padStart(6)} ${unit}`,
  );
}

function convolution(size, cin, cout, k, stride, depthwise) {
  const out = size / stride;
  const x = tf.randomNormal([64, size, size, cin]);
  const dy = tf.randomNormal([64, out, out, cout]);
  const filter = tf.randomNormal([k, k, cin, depthwise ? 1 : cout]);
  const flop = 2 * 64 * out * out * k * k * cin * (depthwise ? 1 : cout);
  const attrs = { strides: stride, pad: k >> 1, dilations: 1, dataFormat: 'NHWC', dimRoundingMode: 'floor' };
  const name = `${depthwise ? 'depthwise' : 'conv'} ${k}x${k}/${stride} ${size}px ${cin}->${cout}`;
  const [forward, back] = depthwise
    ? ['DepthwiseConv2dNative', 'DepthwiseConv2dNativeBackprop']
    : ['Conv2D', 'Conv2DBackprop'];
  const run = (kernel, inputs, more) => () => tf.engine().runKernel(kernel, inputs, { ...attrs, ...more });
  best(`${name} y`, flop, 'GFLOP/s', run(forward, { x, filter }));
  best(`${name} dx`, flop, 'GFLOP/s', run(`${back}Input`, { dy, filter }, { inputShape: x.shape }));
  best(`${name} dw`, flop, 'GFLOP/s', run(`${back}Filter`, { x, dy }, { filterShape: filter.shape }));
  tf.dispose([x, dy, filter]);
}

function norm(size, c) {
  const [x, dy] = [0, 1].map(() => tf.randomNormal([64, size, size, c]));
  const [gamma, beta] = [tf.ones([c]), tf.zeros([c])];
  const opts = { epsilon: 1e-5, activation: 'relu' };
  const { y, mean, variance } = batchNorm(x, gamma, beta, opts);
  const inputs = { x, dy, gamma, beta, mean, variance };
  best(`batch norm ${size}px ${c}`, 3 * 4 * x.size, 'GB/s', () => batchNorm(x, gamma, beta, opts));
  best(`batch norm gradient ${size}px ${c}`, 5 * 4 * x.size, 'GB/s', () =>
    tf.engine().runKernel('NtaaBatchNormGrad', inputs, opts),
  );
  tf.dispose([x, dy, gamma, beta, y, mean, variance]);
}

convolution(32, 3, 16, 3, 1, false);
for (const [size, a, b] of [
  [32, 16, 64],
  [16, 24, 96],
  [8, 40, 160],
  [4, 64, 256],
]) {
  convolution(size, a, b, 1, 1, false);
  convolution(size, b, a, 1, 1, false);
}
for (const [size, c, k, stride] of [
  [32, 64, 3, 1],
  [32, 64, 5, 2],
  [16, 96, 3, 1],
  [16, 96, 5, 2],
  [8, 160, 5, 1],
  [8, 160, 3, 2],
  [4, 256, 3, 1],
])
  convolution(size, c, c, k, stride, true);
for (const [size, c] of [
  [32, 64],
  [16, 96],
  [8, 160],
  [4, 256],
])
  norm(size, c);
console.log(JSON.stringify({ engine: engine.name, ...results }));
