// A whole job beside what somebody with PyTorch would do: accuracy of NTAA, of its weights-only baseline (WP&F), and of
// a network of at least as many multiply-accumulates trained from scratch for the same wall time on the same images.
// npm run bench -- adapt [--seconds 300] [--seeds 1] [--sets emoji,mnist or paths of archives] [--no-torch]
// PyTorch is looked for in NTAA_BENCH_PYTHON, python3, /usr/bin/python3. Prints a table, and JSON as its last line.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { adapt, prepareTarget } from '../packages/adaptation/lib/index.js';
import { initEngine } from '../packages/engine/lib/index.js';
import { canonical, tinySpace, units } from '../packages/nas/lib/index.js';
import { builtinSupernet } from '../packages/supernet/lib/index.js';
import { dataset, packs } from './peers/datasets.mjs';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '300' },
    seeds: { type: 'string', default: '1' },
    first: { type: 'string', default: '0' },
    sets: { type: 'string', default: 'emoji,mnist' },
    'no-torch': { type: 'boolean', default: false },
  },
});
const seconds = Number(values.seconds);
const scratch = mkdtempSync(join(tmpdir(), 'ntaa-bench-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));
const pythons = [process.env.NTAA_BENCH_PYTHON, 'python3', '/usr/bin/python3'].filter(Boolean);
const hasTorch = (python) =>
  spawnSync(python, ['-c', 'import torch, numpy'], { stdio: 'ignore' }).status === 0;
const python = values['no-torch'] ? undefined : pythons.find(hasTorch);
if (!python) console.log('no PyTorch with numpy found: its column is left out');

const engine = await initEngine();
const rows = [];
for (const set of values.sets.split(',')) {
  const { folder, index } = await dataset(set, scratch);
  const packed = await packs(folder, index);
  for (let seed = Number(values.first); seed < Number(values.first) + Number(values.seeds); seed++) {
    rows.push({ set: basename(set), seed, ...(await compare(folder, index, packed, seed)) });
    console.log(JSON.stringify(rows.at(-1)));
  }
}
const table = rows.map(({ phases: _, ...row }) => row);
console.table(table);
console.log(JSON.stringify({ bench: 'adapt', engine: engine.name, seconds, rows }));

async function compare(folder, index, packed, seed) {
  const data = await prepareTarget({
    ...{
      images: async () => join(folder, 'images.bin'),
      index,
      seed,
      space: tinySpace,
      packed,
      scratch: folder,
    },
  });
  const began = Date.now();
  const request = {
    kind: 'adapt',
    task: 'classification',
    dataset: 'ds_bench',
    seed,
    budget: { max_seconds: seconds },
  };
  const ports = {
    ...{ progress() {}, events() {}, candidates() {}, wanted: () => 'run', now: () => Date.now() },
    checkpoint: { load: async () => null, save: async () => {} },
  };
  const outcome = await adapt({
    request,
    startedAt: began,
    data,
    space: tinySpace,
    source: builtinSupernet().tensors,
    ports,
  });
  const took = (Date.now() - began) / 1000;
  const torch = python ? fromScratch(data, index, packed, outcome, seed) : null;
  data.close();
  outcome.net.dispose();
  outcome.bn.dispose();
  return {
    test: outcome.metrics.images,
    ntaa: percent(outcome.metrics.top1),
    wpf: percent(outcome.baseline.metrics.top1),
    torch: torch && percent(torch.top1),
    mmacs: (outcome.macs / 1e6).toFixed(2),
    wpf_mmacs: (outcome.baseline.macs / 1e6).toFixed(2),
    genotype: canonical(outcome.genotype),
    seconds: Math.round(took),
    tau: outcome.search.rank_correlation,
    torch_epochs: torch && Math.round(torch.epochs),
    phases: outcome.seconds,
  };
}

/** NTAA's own architecture in PyTorch, from random weights, on the images that NTAA trained and selected on. */
function fromScratch(data, index, packed, outcome, seed) {
  const { resolution } = outcome.genotype;
  const task = {
    units: units(tinySpace, outcome.genotype),
    ...{ outputs: data.labels.length, resolution, packed: packed.get(resolution), labels: [...data.labelOf] },
    ...{ train: [...data.splits.train, ...data.splits.validation], test: data.splits.test },
    ...{ mean: [...data.preprocessing.mean], std: [...data.preprocessing.std], seconds, seed },
    threads: Math.min(2, availableParallelism()),
  };
  const peer = fileURLToPath(new URL('./peers/torch_scratch.py', import.meta.url));
  const { status, stdout, stderr } = spawnSync(python, [peer], {
    ...{ input: `${JSON.stringify(task)}\n`, encoding: 'utf8', maxBuffer: 2 ** 26 },
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', OMP_NUM_THREADS: String(task.threads) },
  });
  if (status !== 0) throw new Error(`PyTorch failed: ${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

function percent(share) {
  return Number((100 * share).toFixed(1));
}
