// What pretraining on formula-driven images gains on real targets: the same jobs from the built-in supernet and from
// random weights, same seeds, same splits, same number of image passes. Prints a table, and JSON as its last line.
//   --seeds N (2)   --candidates N (24)   --weights FILE (the shipped file)   --sets mnist,emoji
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { adapt, prepareTarget } from '../packages/adaptation/lib/index.js';
import { initEngine } from '../packages/engine/lib/index.js';
import { canonical, tinySpace } from '../packages/nas/lib/index.js';
import { Rng } from '../packages/random/lib/index.js';
import { builtinSupernet, readSafetensors, Supernet } from '../packages/supernet/lib/index.js';
import { dataset } from './peers/datasets.mjs';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '2' },
    candidates: { type: 'string', default: '24' },
    weights: { type: 'string' },
    sets: { type: 'string', default: 'mnist,emoji' },
  },
});
const scratch = mkdtempSync(join(tmpdir(), 'ntaa-bench-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));

const engine = await initEngine();
const pretrained = values.weights
  ? readSafetensors(readFileSync(values.weights)).tensors
  : builtinSupernet().tensors;
const rows = [];
const sets = values.sets.split(',');
for (const name of sets) {
  const { folder, index } = await dataset(name, scratch);
  for (let seed = 0; seed < Number(values.seeds); seed++)
    for (const [from, tensors] of [
      ['tiny', pretrained],
      ['random', randomWeights(seed)],
    ]) {
      rows.push({ target: name, seed, from, ...(await run(folder, index, seed, tensors)) });
      console.log(JSON.stringify(rows.at(-1)));
    }
}
console.table(rows);
const mean = (target, from, key) => {
  const found = rows.filter((row) => row.target === target && row.from === from);
  return found.reduce((sum, row) => sum + row[key], 0) / found.length;
};
const gain = Object.fromEntries(
  sets.map((target) => [target, mean(target, 'tiny', 'ntaa') - mean(target, 'random', 'ntaa')]),
);
console.log(
  JSON.stringify({ bench: 'tiny', engine: engine.name, candidates: Number(values.candidates), gain, rows }),
);

async function run(folder, index, seed, source) {
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
