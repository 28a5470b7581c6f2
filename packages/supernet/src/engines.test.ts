/** The embedded engine and TensorFlow give the same numbers: each in a process of its own, which is all an engine allows. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { readSafetensors, type NamedTensors } from './index.js';

const there = existsSync(new URL('../../../.cache/tensorflow/tfjs_binding.node', import.meta.url));
if (!there) console.log('Engines not compared, without libtensorflow: run npm run setup:tensorflow.');

/**
 * Logits, gradients, and what candidates are judged by, on noise: of the built-in supernet's weights, and of weights whose
 * batch norms keep every activation far from the kinks of its function, where a last bit can switch a gradient off.
 */
const COMPUTE = `
import { writeFileSync } from 'node:fs';
import { Gradients, initEngine, tf } from '@ntaa/engine';
import { Distribution, handDesigned, largest, smallest } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { builtinSupernet, calibrate, lossGradients, Supernet, writeSafetensors } from '@ntaa/supernet';
const [engine, file] = process.argv.slice(1);
await initEngine(engine);
const { card: { space }, tensors } = builtinSupernet();
const draw = (rng, length) => Float32Array.from({ length }, () => rng.normal());
const smooth = new Map([...tensors].map(([name, { shape, data }]) => {
  const rng = new Rng('smooth', name);
  if (name.endsWith('.bn.gamma')) return [name, { shape, data: data.map(() => 0.2 + 0.1 * rng.uniform()) }];
  if (name.endsWith('.bn.beta')) return [name, { shape, data: data.map(() => (rng.uniform() < 0.3 ? -8 : 8)) }];
  return [name, { shape, data }];
}));
const results = new Map();
for (const [kind, weights] of Object.entries({ tiny: tensors, smooth })) {
  const net = Supernet.load(space, weights, 10, new Rng('head'));
  const uniform = Distribution.uniform(space);
  const drawn = [0, 1, 2].map((i) => uniform.sample(new Rng('genotype', i)));
  [largest(space), handDesigned(space), smallest(space), ...drawn].forEach((genotype, i) => {
    const rng = new Rng('batch', i);
    const { resolution } = genotype;
    const images = tf.tensor4d(draw(rng, 32 * resolution ** 2 * 3), [32, resolution, resolution, 3]);
    const targets = tf.softmax(tf.tensor2d(draw(rng, 320), [32, 10]));
    const sums = new Gradients(net.params());
    const put = (name, shape, data) => results.set([kind, i, name].join(' '), { shape, data: Float32Array.from(data) });
    const { logits } = lossGradients(net, genotype, images, targets, sums);
    put('logits', logits.shape, logits.dataSync());
    const gradients = new Float32Array(sums.size);
    sums.copyTo(gradients);
    put('gradients', [sums.size], gradients);
    let at = 0;
    for (const { name, variable } of net.params()) {
      if (sums.has(name)) put('gradient of ' + name, variable.shape, gradients.subarray(at, at + variable.size));
      at += Math.ceil(variable.size / 4) * 4;
    }
    const judged = net.forward(images, genotype, calibrate(net, genotype, [images])).logits;
    put('logits when judged', judged.shape, judged.dataSync());
  });
}
writeFileSync(file, writeSafetensors(results, {}));
`;

async function compute(engine: string, folder: string): Promise<NamedTensors> {
  const file = join(folder, `${engine}.safetensors`);
  const cwd = fileURLToPath(new URL('..', import.meta.url));
  const args = ['--input-type=module', '-e', COMPUTE, engine, file];
  await promisify(execFile)(process.execPath, args, { cwd });
  return readSafetensors(await readFile(file)).tensors;
}

const most = (values: Float32Array) => values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
const norm = (values: Float32Array) => Math.hypot(...values);

it.skipIf(!there)(
  'give the same logits and gradients for the same weights and images',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'ntaa-engines-'));
    try {
      const [ours, theirs] = [await compute('wasm', folder), await compute('tensorflow', folder)];
      expect([...ours.keys()]).toEqual([...theirs.keys()]);
      for (const [name, { data }] of theirs) {
        const off = ours.get(name)!.data.map((value, i) => value - data[i]!);
        const [kind, i, what] = name.split(' ');
        const all = most(theirs.get(`${kind} ${i} gradients`)!.data);
        if (what === 'logits') expect(most(off), name).toBeLessThan(1e-4);
        else if (what === 'gradients') expect(norm(off) / norm(data), name).toBeLessThan(1e-3);
        // A shift before another batch norm has no gradient but rounding: hence the floor.
        else if (kind === 'smooth')
          expect(most(off) / Math.max(most(data), all / 100), name).toBeLessThan(1e-3);
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
  120_000,
);
