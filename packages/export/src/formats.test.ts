import type { JobError } from '@ntaa/contracts';
import { initEngine, tf } from '@ntaa/engine';
import { Rng } from '@ntaa/random';
import type { PlainTensor, StaticGraph, StaticNode } from '@ntaa/supernet';
import '@tensorflow/tfjs-backend-cpu';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { encodeOnnx } from './onnx.js';
import { encodeTfjs } from './tfjs.js';
import { verifyFiles } from './verify.js';

let folder: string;
let backend: string;
beforeAll(async () => {
  await initEngine();
  backend = tf.getBackend();
  folder = await mkdtemp(join(tmpdir(), 'ntaa-formats-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Activation = 'linear' | 'relu' | 'hswish';

const normals = (rng: Rng, shape: number[], deviation = 1): PlainTensor => {
  const size = shape.reduce((a, b) => a * b, 1);
  return { shape, data: Float32Array.from({ length: size }, () => deviation * rng.normal()) };
};

/** Stem, inverted bottlenecks (a residual wherever shapes allow), head, pool, classifier; odd widths on purpose. */
function randomGraph(
  seed: number,
  width: number,
  activation: Activation,
  outputs: number,
  ending: 'linear' | 'softmax' | 'l2-normalise' = 'linear',
  height = width,
): StaticGraph {
  const rng = new Rng('graph', seed);
  const nodes: StaticNode[] = [];
  let at = 'pixels';
  let channels = 3;
  const conv = (op: 'conv' | 'depthwise', out: number, kernel: number, stride: number, act: Activation) => {
    const shape = op === 'conv' ? [kernel, kernel, channels, out] : [kernel, kernel, channels, 1];
    const fanIn = kernel * kernel * (op === 'conv' ? channels : 1);
    // One node bears the name of the file's output, so that a clash would show.
    const name = nodes.length === 1 ? 'logits' : `node.${nodes.length}`;
    const weight = normals(rng, shape, Math.sqrt(2 / fanIn));
    const bias = normals(rng, [out], 0.3);
    nodes.push({ op, name, inputs: [at], weight, bias, stride, pad: kernel >> 1, activation: act });
    at = name;
    channels = out;
  };
  conv('conv', 5 + rng.int(4), 3, 1 + rng.int(2), activation);
  for (let block = 0; block < 3; block++) {
    const [entry, before] = [at, channels];
    const stride = block === 0 ? 2 : 1;
    conv('conv', channels * (1 + rng.int(3)), 1, 1, activation);
    conv('depthwise', channels, 3 + 2 * rng.int(3), stride, activation);
    conv('conv', block === 1 ? before : 4 + rng.int(9), 1, 1, 'linear');
    if (stride === 1 && channels === before) {
      nodes.push({ op: 'add', name: `residual.${block}`, inputs: [at, entry] });
      at = `residual.${block}`;
    }
  }
  conv('conv', 17, 1, 1, activation);
  nodes.push({ op: 'global-average-pool', name: 'pool', inputs: [at] });
  const weight = normals(rng, [channels, outputs], 0.5);
  const [scale, shift] = [normals(rng, [channels]), normals(rng, [channels], 0.1)];
  nodes.push({ op: 'affine', name: 'neck', inputs: ['pool'], scale, shift });
  nodes.push({ op: 'linear', name: 'top', inputs: ['neck'], weight, bias: normals(rng, [outputs]) });
  const input = { name: 'pixels', width, height, channels: 3 } as const;
  if (ending === 'linear') return { input, nodes, output: 'top', outputs };
  nodes.push({ op: ending, name: 'end', inputs: ['top'] });
  return { input, nodes, output: 'end', outputs };
}

interface Value {
  width: number;
  height: number;
  channels: number;
  data: Float64Array;
}

/** The obvious loops, in double precision, for one image [H, W, 3]. */
function reference(graph: StaticGraph, image: Float32Array): Float64Array {
  const { name, ...shape } = graph.input;
  const values = new Map<string, Value>([[name, { ...shape, data: Float64Array.from(image) }]]);
  for (const node of graph.nodes) {
    const [x, y] = node.inputs.map((input) => values.get(input)!) as [Value, Value];
    values.set(node.name, evaluate(node, x, y));
  }
  return values.get(graph.output)!.data;
}

function evaluate(node: StaticNode, x: Value, y: Value): Value {
  switch (node.op) {
    case 'add':
      return { ...x, data: x.data.map((value, i) => value + y.data[i]!) };
    case 'global-average-pool': {
      const data = new Float64Array(x.channels);
      x.data.forEach((value, i) => (data[i % x.channels]! += value / (x.width * x.height)));
      return { ...x, width: 1, height: 1, data };
    }
    case 'linear': {
      const data = Float64Array.from(node.bias.data, (bias, k) =>
        x.data.reduce(
          (sum, value, c) => sum + value * node.weight.data[c * node.bias.data.length + k]!,
          bias,
        ),
      );
      return { width: 1, height: 1, channels: data.length, data };
    }
    case 'affine':
      return { ...x, data: x.data.map((value, c) => value * node.scale.data[c]! + node.shift.data[c]!) };
    case 'softmax': {
      const exp = x.data.map(Math.exp);
      return { ...x, data: exp.map((value) => value / exp.reduce((a, b) => a + b)) };
    }
    case 'l2-normalise':
      return { ...x, data: x.data.map((value) => value / Math.hypot(...x.data)) };
    case 'conv':
    case 'depthwise':
      return convolve(node, x);
  }
}

function convolve(node: Extract<StaticNode, { op: 'conv' | 'depthwise' }>, x: Value): Value {
  const [kernel, , ins] = node.weight.shape as [number, number, number, number];
  const outs = node.bias.data.length;
  const [height, width] = [x.height, x.width].map(
    (size) => Math.floor((size + 2 * node.pad - kernel) / node.stride) + 1,
  ) as [number, number];
  const data = new Float64Array(height * width * outs);
  for (let i = 0; i < data.length; i++) {
    const [row, column, out] = [Math.floor(i / outs / width), Math.floor(i / outs) % width, i % outs];
    let sum = node.bias.data[out]!;
    for (let tap = 0; tap < kernel * kernel; tap++) {
      const r = row * node.stride - node.pad + Math.floor(tap / kernel);
      const c = column * node.stride - node.pad + (tap % kernel);
      if (r < 0 || c < 0 || r >= x.height || c >= x.width) continue;
      const pixel = (r * x.width + c) * x.channels;
      if (node.op === 'depthwise') sum += x.data[pixel + out]! * node.weight.data[tap * ins + out]!;
      else
        for (let k = 0; k < ins; k++)
          sum += x.data[pixel + k]! * node.weight.data[(tap * ins + k) * outs + out]!;
    }
    data[i] = activate(sum, node.activation);
  }
  return { width, height, channels: outs, data };
}

function activate(x: number, activation: Activation): number {
  if (activation === 'relu') return Math.max(0, x);
  return activation === 'hswish' ? (x * Math.min(6, Math.max(0, x + 3))) / 6 : x;
}

/** Random images and the reference's outputs for them. */
function expected(graph: StaticGraph, n: number) {
  const { width, height } = graph.input;
  const images = normals(new Rng('images', width), [n, height, width, 3]).data;
  const size = images.length / n;
  const rows = Array.from({ length: n }, (_, i) =>
    reference(graph, images.subarray(i * size, (i + 1) * size)),
  );
  return { images, n, outputs: Float32Array.from(rows.flatMap((row) => [...row])) };
}

async function write(name: string, graph: StaticGraph) {
  const paths = { onnx: join(folder, `${name}.onnx`), tfjs: join(folder, name) };
  await mkdir(paths.tfjs, { recursive: true });
  await writeFile(paths.onnx, encodeOnnx(graph, 'logits', {}));
  for (const [file, bytes] of encodeTfjs(graph, 'logits', {})) await writeFile(join(paths.tfjs, file), bytes);
  return paths;
}

const networkOf = ({ input: { width, height } }: StaticGraph) => ({ output: 'logits', width, height });

const CASES: Parameters<typeof randomGraph>[] = [
  [1, 9, 'relu', 2],
  [2, 17, 'hswish', 7],
  [3, 28, 'relu', 10, 'softmax'],
  [4, 31, 'hswish', 3, 'l2-normalise'],
  [5, 8, 'linear', 1],
  [9, 11, 'relu', 6, 'l2-normalise', 22],
  [10, 16, 'hswish', 5, 'linear', 9],
];

test.each(CASES)(
  'graph %i of %i px width with %s, %i outputs, equals float64 loops in both runtimes',
  async (...args) => {
    const [seed] = args;
    const graph = randomGraph(...args);
    expect(graph.nodes.some(({ op }) => op === 'add')).toBe(true);
    const paths = await write(`graph${seed}`, graph);
    const network = networkOf(graph);
    // Two batch sizes from one file: N is dynamic.
    for (const n of [1, 3]) {
      const tensors = tf.memory().numTensors;
      const found = await verifyFiles(paths, network, expected(graph, n));
      expect(found.onnx).toBeLessThan(1e-5);
      expect(found.tfjs).toBeLessThan(1e-5);
      expect(tf.memory().numTensors).toBe(tensors);
    }
  },
);

test('the TF.js model needs nothing of our engine: the plain JavaScript backend runs it too', async () => {
  const graph = randomGraph(...CASES[1]!);
  const paths = await write('plain', graph);
  await tf.setBackend('cpu');
  try {
    const found = await verifyFiles(paths, networkOf(graph), expected(graph, 2));
    expect(found.tfjs).toBeLessThan(1e-5);
  } finally {
    await tf.setBackend(backend);
  }
});

test('weights beyond a shard are cut into several files', async () => {
  const graph = randomGraph(6, 8, 'relu', 80_000);
  const files = encodeTfjs(graph, 'logits', {});
  expect([...files.keys()]).toEqual(['model.json', 'group1-shard1of2.bin', 'group1-shard2of2.bin']);
  const paths = await write('sharded', graph);
  await verifyFiles(paths, networkOf(graph), expected(graph, 1));
});

test('a file whose outputs differ is refused with the measured difference', async () => {
  const graph = randomGraph(7, 12, 'relu', 4);
  const network = networkOf(graph);
  const right = expected(graph, 2);
  const paths = await write('right', graph);
  const first = graph.nodes[0] as Extract<StaticNode, { op: 'conv' | 'depthwise' }>;
  first.weight.data[0]! += 0.1;
  const wrong = await write('wrong', graph);
  for (const [file, pair] of [
    ['model.onnx', { ...paths, onnx: wrong.onnx }],
    ['tfjs/model.json', { ...paths, tfjs: wrong.tfjs }],
  ] as const) {
    const error = (await verifyFiles(pair, network, right).catch((e: unknown) => e)) as JobError;
    expect(error).toMatchObject({ name: 'JobError', code: 'export-verification-failed' });
    expect(error.message).toContain(file);
    expect(error.message).toMatch(/differ by \d\.\d\de[+-]\d/);
  }
  const outputs = right.outputs.slice();
  outputs[3] = NaN;
  await expect(verifyFiles(paths, network, { ...right, outputs })).rejects.toThrow('differ by NaN');
});
