// Training and evaluation speed of the engine on the reference network: 7 MBConv blocks, 9.6 MMACs an image at
// 32x32x3, batch 64; a step is forward, cross entropy, backward and SGD with momentum. The same network in PyTorch is
// measured beside it, turn by turn, where Python has torch.
// node bench/engine.mjs [--rounds N] [--profile]
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { affine, batchNorm, initEngine, memory, Sgd, softmaxCrossEntropy, tf } from '@ntaa/engine';
import { Rng } from '@ntaa/random';

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, profile: { type: 'boolean', default: false } },
});
const ROUNDS = Number(options.rounds);
const STEPS = 5;
const BATCH = 64;
const EXPAND = 4;
const BLOCKS = [
  [16, 1, 3],
  [24, 2, 5],
  [24, 1, 3],
  [40, 2, 5],
  [40, 1, 5],
  [64, 2, 3],
  [64, 1, 3],
]; // out, stride, kernel

const engine = await initEngine();
const rng = new Rng('bench engine');
const normal = (shape, std) =>
  tf.tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => rng.normal() * std),
    shape,
  );

const params = [];
function param(name, shape, fan) {
  const init = fan ? normal(shape, Math.sqrt(2 / fan)) : tf.fill(shape, name.endsWith('gamma') ? 1 : 0);
  const variable = tf.variable(init, true, name);
  init.dispose();
  params.push({ name, variable, weightDecay: 0, lrScale: 1 });
  return variable;
}

/** Convolution, batch norm and activation; at evaluation batch norm is an affine map. */
function unit(name, cin, cout, k, stride, activation, depthwise = false) {
  const w = param(
    `${name}.w`,
    depthwise ? [k, k, cin, 1] : [k, k, cin, cout],
    depthwise ? k * k : k * k * cin,
  );
  const gamma = param(`${name}.gamma`, [cout]);
  const beta = param(`${name}.beta`, [cout]);
  const conv = depthwise ? tf.depthwiseConv2d : tf.conv2d;
  return (x, training) => {
    const y = conv(x, w, stride, k >> 1, 'NHWC', 1, 'floor');
    return training
      ? batchNorm(y, gamma, beta, { epsilon: 1e-5, activation }).y
      : affine(y, gamma, beta, activation);
  };
}

function network() {
  const layers = [unit('stem', 3, 16, 3, 1, 'relu')];
  let c = 16;
  BLOCKS.forEach(([cout, stride, k], i) => {
    const cin = c;
    const mid = c * EXPAND;
    const expand = unit(`${i}.expand`, cin, mid, 1, 1, 'relu');
    const depth = unit(`${i}.depthwise`, mid, mid, k, stride, 'relu', true);
    const project = unit(`${i}.project`, mid, cout, 1, 1, 'linear');
    layers.push((x, training) => {
      const y = project(depth(expand(x, training), training), training);
      return stride === 1 && cin === cout ? tf.add(x, y) : y;
    });
    c = cout;
  });
  const w = param('head.w', [c, 10], c);
  const b = param('head.b', [10]);
  return (x, training) => {
    const features = tf.mean(
      layers.reduce((h, layer) => layer(h, training), x),
      [1, 2],
    );
    return tf.add(tf.matMul(features, w), b);
  };
}

const forward = network();
const images = normal([BATCH, 32, 32, 3], 1);
const targets = tf
  .oneHot(
    tf.tensor1d(
      Array.from({ length: BATCH }, () => rng.int(10)),
      'int32',
    ),
    10,
  )
  .toFloat();
const sgd = new Sgd({ momentum: 0.9, nesterov: false });

let lastLoss = 0;
function step() {
  tf.tidy(() => {
    const { value, grads } = tf.variableGrads(() => softmaxCrossEntropy(forward(images, true), targets));
    sgd.step(params, grads, 0.05);
    lastLoss = value.dataSync()[0];
  });
}
const evaluate = () => tf.tidy(() => void forward(images, false).dataSync());

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
function timed(f) {
  const times = [];
  for (let i = 0; i < STEPS; i++) {
    const start = performance.now();
    f();
    times.push(performance.now() - start);
  }
  return median(times);
}

/** Milliseconds by kernel over one step. */
function profile() {
  const spent = new Map();
  for (const config of tf.getKernelsForBackend(tf.getBackend())) {
    const { kernelFunc } = config;
    config.kernelFunc = (args) => {
      const start = performance.now();
      const out = kernelFunc(args);
      const entry = spent.get(config.kernelName) ?? { ms: 0, calls: 0 };
      spent.set(config.kernelName, { ms: entry.ms + performance.now() - start, calls: entry.calls + 1 });
      return out;
    };
  }
  const start = performance.now();
  step();
  const total = performance.now() - start;
  console.log(
    [...spent]
      .sort((a, b) => b[1].ms - a[1].ms)
      .map(([name, { ms, calls }]) => `${name} ${calls}x ${ms.toFixed(1)} ms`)
      .join('\n'),
  );
  console.log(`step ${total.toFixed(1)} ms`);
}

const script = new URL('./peers/torch_mbconv.py', import.meta.url).pathname;
function torch() {
  const found = spawnSync('python3', ['-c', 'import torch'], { stdio: 'ignore' }).status === 0;
  if (!found) return undefined;
  const run = spawnSync('python3', [script, '--steps', String(STEPS)], { encoding: 'utf8' });
  return run.status === 0 ? JSON.parse(run.stdout.trim().split('\n').at(-1)) : undefined;
}

console.log(`${engine.name}: ${engine.reason}`);
for (let i = 0; i < 3; i++) step();
evaluate();
if (options.profile) profile();
const tensors = memory().tensors;
const rounds = { train: [], evaluate: [], torch: [] };
let cpu = 0;
for (let i = 0; i < ROUNDS; i++) {
  const before = process.cpuUsage();
  rounds.train.push(timed(step));
  const { user, system } = process.cpuUsage(before);
  cpu += (user + system) / 1e6;
  rounds.evaluate.push(timed(evaluate));
  const peer = torch();
  if (peer) rounds.torch.push(peer.train_img_s);
}
console.log(
  JSON.stringify({
    engine: engine.name,
    train_ms: Math.round(median(rounds.train) * 10) / 10,
    train_img_s: Math.round((BATCH / median(rounds.train)) * 10000) / 10,
    eval_img_s: Math.round((BATCH / median(rounds.evaluate)) * 10000) / 10,
    // What a step would reach with the core to itself: on a busy machine the honest number of the two.
    train_img_per_cpu_s: Math.round((BATCH * STEPS * ROUNDS * 10) / cpu) / 10,
    rss_mb: Math.round(process.resourceUsage().maxRSS / 1024),
    loss: lastLoss,
    leaked_tensors: memory().tensors - tensors,
    torch_train_img_s: rounds.torch.length > 0 ? median(rounds.torch) : null,
  }),
);
