// Makes the built-in supernet `tiny` again, from formula-driven images alone: npm run pretrain:tiny
//   --seconds N   how long to train (default: the recipe's)   --out FILE   where to (default: the shipped file)
//   --classes N --instances N   another size of the source   --seed N
//   --from FILE   go on from these weights   --resume FILE   keep checkpoints there, and go on from them
import { mkdtempSync, openSync, closeSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { pretrain } from '../packages/adaptation/lib/index.js';
import { channelStatistics, FormulaSource, PackedImages, TINY_RECIPE } from '../packages/data/lib/index.js';
import { initEngine } from '../packages/engine/lib/index.js';
import { canonical, tinySpace } from '../packages/nas/lib/index.js';
import { Rng } from '../packages/random/lib/index.js';
import { readSafetensors, writeSafetensors } from '../packages/supernet/lib/index.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '2580' },
    classes: { type: 'string', default: String(TINY_RECIPE.classes) },
    instances: { type: 'string', default: String(TINY_RECIPE.instances) },
    seed: { type: 'string', default: '0' },
    peak: { type: 'string', default: '0.1' },
    out: { type: 'string', default: join(root, 'packages/supernet/assets/tiny.safetensors') },
    from: { type: 'string' },
    resume: { type: 'string' },
  },
});
const [seconds, classes, instances, seed] = [
  values.seconds,
  values.classes,
  values.instances,
  values.seed,
].map(Number);
const startedAt = Date.now();
const scratch = mkdtempSync(join(tmpdir(), 'ntaa-pretrain-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));

const engine = await initEngine();
console.log(`${engine.name}; ${classes} classes x ${instances} images, ${seconds} s`);
const data = await makeSource();
console.log(`source drawn in ${((Date.now() - startedAt) / 1000).toFixed(0)} s`);

let told = 0;
const checkpointFile = values.resume;
const outcome = await pretrain({
  data,
  space: tinySpace,
  seed,
  startedAt: Date.now(),
  budget: { max_seconds: seconds, max_epochs: 1000 },
  peak: Number(values.peak),
  ...(values.from && { from: readSafetensors(readFileSync(values.from)).tensors }),
  ports: {
    progress(stage, progress) {
      if (Date.now() - told < 10_000) return;
      told = Date.now();
      const speed = progress.images_per_second?.toFixed(0) ?? '-';
      console.log(
        `${((Date.now() - startedAt) / 1000).toFixed(0)} s  ${stage}  ${progress.message}  ${speed} images/s`,
      );
    },
    events() {},
    candidates() {},
    wanted: () => 'run',
    now: () => Date.now(),
    checkpoint: {
      load: async () => {
        try {
          return checkpointFile ? readFileSync(checkpointFile) : null;
        } catch {
          return null;
        }
      },
      save: async (bytes) => checkpointFile && writeFileSync(checkpointFile, bytes),
    },
  },
});

const subnets = outcome.subnets.map(({ name, genotype, metrics }) => ({
  name,
  genotype: canonical(genotype),
  top1: Math.round(metrics.top1 * 1e4) / 1e4,
}));
const card = {
  name: 'tiny',
  source: `formula-driven images: ${classes} classes x ${instances}, drawn by code (FormulaSource), no real image`,
  paradigm: 'supervised',
  space: tinySpace,
  metrics: {
    recipe: TINY_RECIPE,
    seed,
    hours: Math.round(outcome.seconds / 36) / 100,
    engine: engine.name,
    cpu: cpus()[0]?.model,
    subnets,
  },
};
// The source's classifier says nothing about a target.
const backbone = new Map([...outcome.tensors].filter(([name]) => !name.startsWith('classifier.')));
const bytes = writeSafetensors(backbone, { card: JSON.stringify(card) });
writeFileSync(values.out, bytes);
console.table(subnets);
console.log(`${values.out}: ${bytes.length} bytes`);

/** Draws the source at the finest resolution, packs it at all of them. */
async function makeSource() {
  const sizes = tinySpace.resolutions;
  const finest = sizes.at(-1);
  const count = classes * instances;
  const files = sizes.map((size) => ({ size, fd: openSync(join(scratch, `${size}.bin`), 'w') }));
  const source = new FormulaSource({ classes, size: finest, seed });
  const image = new Uint8Array(finest * finest * 3);
  for (let i = 0; i < count; i++) {
    source.render(i % classes, Math.floor(i / classes), image);
    for (const { size, fd } of files)
      writeSync(fd, size === finest ? image : await shrink(image, finest, size));
  }
  for (const { fd } of files) closeSync(fd);
  const packs = new Map(
    sizes.map((size) => [size, new PackedImages(join(scratch, `${size}.bin`), count, size, size)]),
  );
  const order = new Rng(seed, 'source-split').shuffle(Array.from({ length: count }, (_, i) => i));
  const held = Math.min(2000, Math.floor(count / 10));
  const splits = { train: order.slice(held), validation: [], test: order.slice(0, held) };
  const { mean, std } = channelStatistics(packs.get(32), splits.train.slice(0, 20000));
  return {
    labels: Array.from({ length: classes }, (_, k) => `formula ${k}`),
    labelOf: Int32Array.from({ length: count }, (_, i) => i % classes),
    splits,
    packs,
    preprocessing: {
      channels: 'RGB',
      fit: 'contain',
      kernel: 'lanczos3',
      background: { r: 255, g: 255, b: 255 },
      scale: 1 / 255,
      mean,
      std,
    },
    policy: { flip: false, rotate: 10, scale: 0.15, translate: 0.08, color: 0.2, erase: 0.1, fill: 'edge' },
  };
}

function shrink(image, from, to) {
  const raw = { width: from, height: from, channels: 3 };
  return sharp(image, { raw }).resize(to, to).raw().toBuffer();
}
