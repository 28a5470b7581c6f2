// Does pretraining without labels help on real images? A supernet is pretrained on the training images of a set, their
// labels unread, and linear evaluation is run from it, from random weights and from the built-in supernet, on that set's
// labels: accuracy of frozen features on test images that took no part in either.
// npm run bench -- self-supervised [--seconds 120] [--candidates 12] [--seed 0] [--sets emoji or paths of archives]
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { adapt, prepareTarget, pretrain } from '../packages/adaptation/lib/index.js';
import { initEngine } from '../packages/engine/lib/index.js';
import { tinySpace } from '../packages/nas/lib/index.js';
import { Rng } from '../packages/random/lib/index.js';
import { builtinSupernet, Supernet } from '../packages/supernet/lib/index.js';
import { taskFor } from '../packages/tasks/lib/index.js';
import { dataset, packs } from './peers/datasets.mjs';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '120' },
    candidates: { type: 'string', default: '12' },
    seed: { type: 'string', default: '0' },
    sets: { type: 'string', default: 'emoji' },
  },
});
const [seconds, max_candidates, seed] = [values.seconds, values.candidates, values.seed].map(Number);
const scratch = mkdtempSync(join(tmpdir(), 'ntaa-bench-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));
const ports = {
  ...{ progress() {}, events: (events) => events.forEach(tell), candidates() {}, wanted: () => 'run' },
  now: () => Date.now(),
  checkpoint: { load: async () => null, save: async () => {} },
};

const engine = await initEngine();
const rows = [];
for (const set of values.sets.split(',')) {
  const { folder, index } = await dataset(set, scratch);
  const packed = await packs(folder, index);
  const data = await prepareTarget({
    ...{ images: async () => join(folder, 'images.bin'), index, seed, space: tinySpace, packed },
    scratch: folder,
  });
  const { tensors, subnets, seconds: took } = await withoutLabels(data);
  const initial = Supernet.initialise(tinySpace, 2, new Rng(seed, 'random'));
  const [random, own, builtin] = [initial.tensors(), tensors, builtinSupernet().tensors];
  initial.dispose();
  rows.push({
    ...{ set: basename(set), seed, pretrained_seconds: Math.round(took), rank1: subnets[0].metrics.rank1 },
    random: await probe(data, random),
    self_supervised: await probe(data, own),
    builtin: await probe(data, builtin),
  });
  data.close();
}
console.table(rows);
console.log(JSON.stringify({ bench: 'self-supervised', engine: engine.name, seconds, max_candidates, rows }));

function withoutLabels(data) {
  const { augmentation } = taskFor('self-supervised');
  return pretrain({
    data: {
      ...data,
      labels: [],
      labelOf: new Float32Array(data.labelOf.length).fill(NaN),
      policy: { ...data.policy, ...augmentation },
    },
    ...{ paradigm: 'self-supervised', space: tinySpace, seed, startedAt: Date.now(), ports },
    budget: { max_seconds: seconds, max_epochs: 10_000 },
  });
}

async function probe(data, source) {
  const outcome = await adapt({
    request: {
      ...{ kind: 'adapt', task: 'classification', dataset: 'ds_bench', seed, baseline: false },
      ...{ paradigm: 'linear-evaluation', budget: { max_candidates } },
    },
    ...{ startedAt: Date.now(), data, space: tinySpace, source, ports },
  });
  outcome.net.dispose();
  outcome.bn.dispose();
  return Number((100 * outcome.metrics.top1).toFixed(1));
}

function tell({ type, data }) {
  if (type === 'warning') console.log(data.message);
}
