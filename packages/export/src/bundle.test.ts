import { Manifest, type Genotype, type SearchSpace } from '@ntaa/contracts';
import { initEngine, tf } from '@ntaa/engine';
import { cost, wilsonInterval } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { calibrate, extract, fold, readSafetensors, runStatic, Supernet } from '@ntaa/supernet';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import onnxProto from 'onnx-proto';
import sharp from 'sharp';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openPromise } from 'yauzl';
import { buildBundle, type Bundle, type BundleInput } from './index.js';
import { reportInput } from './report/fixtures.js';

/** Labels that would break a table, a link, a path, a JSON string or a terminal. */
const LABELS = [
  'plain',
  'a "quote" and \\',
  'line\nbreak\r| pipe |',
  '# [link](https://evil.example) `code` <img src=x onerror=alert(1)>',
  '../../etc/passwd',
  '\u202Egnp.exe\u2066\u200B',
  '\u0000\u001B[31mred',
  '猫 🐈 é',
  '\uD800 alone',
  'x'.repeat(500),
];

/** An odd size at every stage, stride 2, residuals, both activations. */
const SPACE: SearchSpace = {
  name: 'test',
  resolutions: [27],
  stem: { width: 6, stride: 2, activation: 'hswish' },
  stages: (['relu', 'hswish'] as const).map((activation, i) => ({
    width: 8 + 4 * i,
    stride: 2,
    activation,
    minDepth: 1,
    blocks: [0, 1].map(() => ({ kernels: [3, 5], expands: [2, 3] })),
  })),
  head: { width: 20, activation: 'hswish' },
};
const GENOTYPE: Genotype = {
  space: 'test',
  resolution: 27,
  stages: [
    [
      { kernel: 5, expand: 2 },
      { kernel: 3, expand: 3 },
    ],
    [
      { kernel: 3, expand: 2 },
      { kernel: 5, expand: 2 },
    ],
  ],
};

let folder: string;
let input: BundleInput;
let bundle: Bundle;
/** bundle.zip unpacked by another library: path to bytes, in the order of the entries. */
let unpacked: Map<string, Buffer>;

beforeAll(async () => {
  await initEngine();
  folder = await mkdtemp(join(tmpdir(), 'ntaa-bundle-'));
  input = makeInput();
  bundle = await buildBundle(input, join(folder, 'first'));
  unpacked = await unzip(bundle.files.bundle.path);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A supernet with random weights, one of its architectures calibrated, and the supernet's own outputs for it. */
function makeInput(): BundleInput {
  const net = Supernet.initialise(SPACE, LABELS.length, new Rng('net'));
  const rng = new Rng('images');
  const random = (n: number) => Float32Array.from({ length: n * 27 * 27 * 3 }, () => 2 * rng.uniform() - 1);
  const batch = tf.tensor4d(random(32), [32, 27, 27, 3]);
  const bn = calibrate(net, GENOTYPE, [batch]);
  const small = extract(net, GENOTYPE);
  const images = random(6);
  const logits = tf.tidy(
    () => net.forward(tf.tensor4d(images, [6, 27, 27, 3]), GENOTYPE, bn).logits.dataSync() as Float32Array,
  );
  const metrics = (top1: number) => ({
    top1,
    top1_interval: wilsonInterval(Math.round(top1 * 200), 200),
    top5: 0.95,
    balanced_accuracy: top1,
    loss: 0.5,
    images: 200,
  });
  const { macs, params } = cost(SPACE, GENOTYPE, LABELS.length);
  return {
    output: 'logits',
    graph: fold(small, bn),
    tensors: new Map([...small.tensors(), ...bn.tensors()]),
    manifest: {
      task: 'classification',
      labels: LABELS,
      preprocessing: {
        ...{ width: 27, height: 27, channels: 'RGB', fit: 'contain', kernel: 'lanczos3' },
        ...{ background: { r: 255, g: 255, b: 255 }, scale: 1 / 255 },
        ...{ mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3] },
      },
      genotype: GENOTYPE,
      macs,
      params,
      metrics: metrics(0.8),
      lineage: {
        ...{ job: 'job_1', supernet: 'tiny', supernet_sha256: 'a'.repeat(64) },
        ...{ dataset: 'ds_1', dataset_sha256: 'b'.repeat(64), seed: 7, engine: 'wasm', version: '0.1.0' },
      },
    },
    card: {
      dataset: {
        name: 'pets\n# Not a heading | [x](y)',
        images: { train: 1600, validation: 200, test: 200 },
      },
      supernet: { name: 'tiny', source: 'formula-driven images' },
      classes: LABELS.map((_, k) => ({ images: 20 * Number(k > 0), correct: 16 * Number(k > 0) })),
      baseline: { metrics: metrics(0.7), macs: 2 * macs, params: 2 * params, genotype: GENOTYPE },
      finetuned: true,
      limits: ['Trained on 1,600 images.'],
    },
    report: reportInput(SPACE, GENOTYPE),
    verify: { images, n: 6, outputs: logits },
  };
}

async function unzip(path: string): Promise<Map<string, Buffer>> {
  const zip = await openPromise(path);
  const files = new Map<string, Buffer>();
  for await (const entry of zip.eachEntry()) {
    const chunks: Buffer[] = [];
    for await (const chunk of await zip.openReadStreamPromise(entry)) chunks.push(chunk as Buffer);
    files.set(entry.fileName, Buffer.concat(chunks));
  }
  return files;
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

test('both runtimes reproduce the supernet, and so does the static graph', () => {
  expect(bundle.differences.onnx).toBeLessThan(1e-5);
  expect(bundle.differences.tfjs).toBeLessThan(1e-5);
  const { images, outputs: logits } = input.verify;
  const own = tf.tidy(() => runStatic(input.graph, tf.tensor4d(images, [6, 27, 27, 3])).dataSync());
  own.forEach((value, i) => expect(value).toBeCloseTo(logits[i]!, 4));
});

test('the manifest has the shape of the contract and the hash of every other file', () => {
  const manifest = JSON.parse(unpacked.get('manifest.json')!.toString()) as Manifest;
  expect(Value.Errors(Manifest, manifest)).toEqual([]);
  expect(manifest).toEqual(bundle.manifest);
  expect(manifest.labels).toEqual(LABELS);
  expect(manifest.outputs).toEqual([{ name: 'logits', shape: ['N', LABELS.length] }]);
  const others = [...unpacked].filter(([path]) => path !== 'manifest.json');
  expect(manifest.files).toEqual(
    others.map(([path, bytes]) => ({ path, sha256: sha256(bytes), size: bytes.length })),
  );
});

test('the archives hold these files and no path of this machine', async () => {
  expect([...unpacked.keys()]).toEqual([
    'manifest.json',
    'README.md',
    'model.onnx',
    'model.safetensors',
    'report.html',
    'report/architecture.svg',
    'report/gain.svg',
    'report/learning-curves.svg',
    'report/pareto.svg',
    'tfjs/group1-shard1of1.bin',
    'tfjs/model.json',
  ]);
  const tfjs = await unzip(bundle.files.tfjs.path);
  expect([...tfjs.keys()]).toEqual(['group1-shard1of1.bin', 'model.json']);
  expect((await readFile(bundle.files.bundle.path)).includes(folder)).toBe(false);
  for (const { path, sha256: hash, size } of Object.values(bundle.files)) {
    const bytes = await readFile(path);
    expect([sha256(bytes), bytes.length]).toEqual([hash, size]);
  }
});

test('the same input gives the same bytes, in another time zone too', async () => {
  const zone = process.env['TZ'];
  process.env['TZ'] = 'Asia/Kathmandu';
  try {
    const second = await buildBundle(makeInput(), join(folder, 'second'));
    const hashes = ({ files }: Bundle) => Object.values(files).map((file) => file.sha256);
    expect(hashes(second)).toEqual(hashes(bundle));
  } finally {
    if (zone === undefined) delete process.env['TZ'];
    else process.env['TZ'] = zone;
  }
});

test('every format carries labels and preprocessing unchanged', () => {
  const { opsetImport, irVersion, metadataProps, graph } = onnxProto.onnx.ModelProto.decode(
    unpacked.get('model.onnx')!,
  );
  expect([Number(irVersion), Number(opsetImport[0]!.version)]).toEqual([8, 17]);
  expect(graph!.input!.map(({ name }) => name)).toEqual(['image']);
  expect(graph!.output!.map(({ name }) => name)).toEqual(['logits']);
  const onnx = Object.fromEntries(metadataProps.map(({ key, value }) => [key, value]));
  const safetensors = readSafetensors(unpacked.get('model.safetensors')!);
  expect(safetensors.tensors).toEqual(input.tensors);
  const tfjs = JSON.parse(unpacked.get('tfjs/model.json')!.toString()) as {
    userDefinedMetadata: Record<string, unknown>;
  };
  const { preprocessing, genotype } = input.manifest;
  for (const strings of [onnx, safetensors.metadata]) {
    expect(JSON.parse(strings['labels']!)).toEqual(LABELS);
    expect(JSON.parse(strings['preprocessing']!)).toEqual(preprocessing);
    expect(JSON.parse(strings['genotype']!)).toEqual(genotype);
    expect(strings).not.toHaveProperty('lineage');
  }
  expect(tfjs.userDefinedMetadata).toMatchObject({ labels: LABELS, preprocessing, genotype });
});

test('hostile names stay text in the card, and nothing invisible is written', () => {
  const card = unpacked.get('README.md')!.toString();
  for (const file of ['README.md', 'manifest.json', 'tfjs/model.json'])
    expect(unpacked.get(file)!.toString()).not.toMatch(/[^\n\P{C}]|\uFFFD/u);
  const rows = card.split('## Classes')[1]!.split('## Running')[0]!.trim().split('\n');
  expect(rows).toHaveLength(2 + LABELS.length);
  // Three cells each: four bars that no backslash precedes.
  for (const row of rows) expect(row.match(/(?<!\\)\|/g)).toHaveLength(4);
  expect(card.match(/^# /gm)).toHaveLength(1);
  const [prose] = card.split('## Running') as [string];
  expect(prose).not.toMatch(/(?<!\\)[<[]/);
  expect(prose).not.toContain('https:');
  expect(card).toContain('猫 🐈 é');
  expect(card).toContain('⟨U+202E⟩gnp.exe');
});

test('the card states interval, slices, comparison and limits', () => {
  const card = unpacked.get('README.md')!.toString();
  const [low, high] = wilsonInterval(160, 200).map((x) => `${(100 * x).toFixed(1)}%`);
  expect(card).toContain(`80.0% (95% interval ${low} to ${high})`);
  expect(card).toContain('| plain | 0 | no test image |');
  expect(card).toMatch(/\| WP&amp;F.* \| 70\.0% \(/);
  expect(card).toContain('- Trained on 1,600 images.');
});

test('the program in the card runs, on images with and without colour and alpha', async () => {
  const place = join(folder, 'stranger');
  await mkdir(place);
  for (const name of ['manifest.json', 'model.onnx']) await writeFile(join(place, name), unpacked.get(name)!);
  const program = /```js\n(.*?)```/s.exec(unpacked.get('README.md')!.toString())![1]!;
  await writeFile(join(place, 'predict.mjs'), program);
  const sharpMain = createRequire(import.meta.url).resolve('sharp');
  await symlink(join(dirname(sharpMain), '../..'), join(place, 'node_modules'));
  for (const channels of [1, 4] as const) {
    const rng = new Rng('photo', channels);
    const raw = Uint8Array.from({ length: 50 * 40 * channels }, () => rng.int(256));
    const path = join(place, `${channels}.png`);
    await sharp(raw, { raw: { width: 50, height: 40, channels } })
      .png()
      .toFile(path);
    const { stdout } = await promisify(execFile)(process.execPath, ['predict.mjs', path], { cwd: place });
    // A pipe carries UTF-8, which has no unpaired surrogates.
    expect(stdout).toBe(Buffer.from(`${await expectedLabel(path)}\n`).toString());
  }
});

/** The service's way to the same answer: preprocessing by the manifest's words, the static graph in the engine. */
async function expectedLabel(path: string): Promise<string> {
  const { width, height, fit, kernel, background, scale, mean, std } = input.manifest.preprocessing;
  const pixels = await sharp(path)
    .autoOrient()
    .flatten({ background })
    .toColourspace('srgb')
    .resize(width, height, { fit, kernel, background })
    .raw()
    .toBuffer();
  const values = Float32Array.from(pixels, (x, i) => (x * scale - mean[i % 3]!) / std[i % 3]!);
  const logits = tf.tidy(() => runStatic(input.graph, tf.tensor4d(values, [1, 27, 27, 3])).dataSync());
  return LABELS[logits.indexOf(Math.max(...logits))]!;
}

test('a perturbed weight makes the export fail with the measured difference', async () => {
  const graph = structuredClone(input.graph);
  const conv = graph.nodes.find((node) => node.op === 'depthwise')!;
  if (conv.op === 'depthwise') conv.weight.data[3]! += 0.05;
  await expect(buildBundle({ ...input, graph }, join(folder, 'perturbed'))).rejects.toMatchObject({
    name: 'JobError',
    code: 'export-verification-failed',
    message: expect.stringMatching(/model\.onnx .* differ by \d\.\d\de[+-]\d/) as string,
  });
});

test('a manifest that contradicts the network is refused', async () => {
  const manifest = { ...input.manifest, labels: ['one'] };
  await expect(buildBundle({ ...input, manifest }, join(folder, 'labels'))).rejects.toThrow(
    '10 outputs, but 1 labels',
  );
  const preprocessing = { ...input.manifest.preprocessing, width: 28 };
  await expect(
    buildBundle({ ...input, manifest: { ...input.manifest, preprocessing } }, join(folder, 'size')),
  ).rejects.toThrow('28 x 27 px');
});
