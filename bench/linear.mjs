// Linear evaluation beside the supervised paradigm on the same images: seconds of searching (supervised: transfer and
// search; linear evaluation: search), the whole job's, and accuracy on the test split. One after the other.
// npm run bench -- linear [--candidates 48] [--seconds N (instead: a clock)] [--seeds 1] [--first 0]
//   [--sets emoji,mnist or paths of archives] [--supernet FILE (default: the built-in)]
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { adapt, prepareTarget } from '../packages/adaptation/lib/index.js';
import { initEngine } from '../packages/engine/lib/index.js';
import { tinySpace } from '../packages/nas/lib/index.js';
import { builtinSupernet, readSafetensors } from '../packages/supernet/lib/index.js';
import { dataset, packs } from './peers/datasets.mjs';

const { values } = parseArgs({
  options: {
    candidates: { type: 'string', default: '48' },
    seconds: { type: 'string' },
    seeds: { type: 'string', default: '1' },
    first: { type: 'string', default: '0' },
    sets: { type: 'string', default: 'emoji,mnist' },
    supernet: { type: 'string' },
  },
});
const budget = values.seconds
  ? { max_seconds: Number(values.seconds) }
  : { max_candidates: Number(values.candidates) };
const source = values.supernet
  ? readSafetensors(readFileSync(values.supernet)).tensors
  : builtinSupernet().tensors;
const scratch = mkdtempSync(join(tmpdir(), 'ntaa-bench-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));

const engine = await initEngine();
const rows = [];
for (const set of values.sets.split(',')) {
  const { folder, index } = await dataset(set, scratch);
  const packed = await packs(folder, index);
  for (let seed = Number(values.first); seed < Number(values.first) + Number(values.seeds); seed++) {
    const data = await prepareTarget({
      ...{ images: async () => join(folder, 'images.bin'), index, seed, space: tinySpace, packed },
      scratch: folder,
    });
    const linear = await job(data, seed, 'linear-evaluation');
    const supervised = await job(data, seed, 'supervised');
    data.close();
    const time_ratio = Number((linear.search_seconds / supervised.search_seconds).toFixed(3));
    rows.push({ set: basename(set), seed, time_ratio, linear, supervised });
    console.log(JSON.stringify(rows.at(-1)));
  }
}
console.table(
  rows.map(({ set, seed, time_ratio, linear, supervised }) => ({
    ...{ set, seed, time_ratio, linear_s: linear.search_seconds, supervised_s: supervised.search_seconds },
    ...{
      linear: linear.top1,
      linear_fixed: linear.fixed,
      supervised: supervised.top1,
      wpf: supervised.fixed,
    },
  })),
);
console.log(JSON.stringify({ bench: 'linear', engine: engine.name, budget, rows }));

async function job(data, seed, paradigm) {
  const began = Date.now();
  const outcome = await adapt({
    request: {
      ...{ kind: 'adapt', task: 'classification', dataset: 'ds_bench', seed, paradigm, budget },
    },
    ...{ startedAt: began, data, space: tinySpace, source },
    ports: {
      ...{ progress() {}, events() {}, candidates() {}, wanted: () => 'run', now: () => Date.now() },
      checkpoint: { load: async () => null, save: async () => {} },
    },
  });
  outcome.net.dispose();
  outcome.bn.dispose();
  const { transfer = 0, search = 0 } = outcome.seconds;
  return {
    search_seconds: round(transfer + search, 2),
    job_seconds: round((Date.now() - began) / 1000, 1),
    top1: percent(outcome),
    fixed: percent(outcome.baseline),
    largest: percent(outcome.largest),
    mmacs: round(outcome.macs / 1e6, 2),
    evaluated: outcome.search.evaluated,
    tau: outcome.search.rank_correlation && round(outcome.search.rank_correlation, 2),
    seconds: Object.fromEntries(Object.entries(outcome.seconds).map(([phase, s]) => [phase, round(s, 2)])),
  };
}

function percent({ metrics }) {
  return round(100 * metrics.top1, 1);
}

function round(value, digits) {
  return Number(value.toFixed(digits));
}
