// A long training: does it grow in memory, does it drift from exact arithmetic? Trains the hand-designed network of `tiny`
// on real images with two threads, and now and then computes one more step from the weights it then has, which PyTorch
// computes again in double precision. Drift would show as differences that grow.
// npm run bench -- soak [--minutes 20] [--checks 5]     PyTorch is looked for as in bench/engine.mjs
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { prepareTarget } from '../packages/adaptation/lib/index.js';
import { Crew } from '../packages/adaptation/lib/crew.js';
import { initEngine, memory } from '../packages/engine/lib/index.js';
import { frozenSpace, handDesigned, tinySpace } from '../packages/nas/lib/index.js';
import { Rng } from '../packages/random/lib/index.js';
import { builtinSupernet, extract, Supernet, writeSafetensors } from '../packages/supernet/lib/index.js';
import { taskFor } from '../packages/tasks/lib/index.js';
import { dataset } from './peers/datasets.mjs';
import { forTorch } from './peers/tasks.mjs';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '20' }, checks: { type: 'string', default: '5' } },
});
const [minutes, checks] = [Number(values.minutes), Number(values.checks)];
const scratch = mkdtempSync(join(tmpdir(), 'ntaa-bench-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));
process.env.PYTHONDONTWRITEBYTECODE = '1';
const peer = (name) => fileURLToPath(new URL(`./peers/${name}`, import.meta.url));
const pythons = [process.env.NTAA_BENCH_PYTHON, 'python3', '/usr/bin/python3'].filter(Boolean);
const python = pythons.find((p) => spawnSync(p, ['-c', 'import torch'], { stdio: 'ignore' }).status === 0);
if (!python) console.log('PyTorch is missing: memory is watched, drift is not');

const engine = await initEngine('wasm');
const { folder, index } = await dataset('emoji', scratch);
const data = await prepareTarget({
  ...{ images: async () => join(folder, 'images.bin'), index, seed: 0, packed: new Map(), scratch: folder },
  space: { ...tinySpace, resolutions: [32] },
});
const genotype = handDesigned(tinySpace);
const outputs = data.labels.length;
const supernet = Supernet.load(tinySpace, builtinSupernet().tensors, outputs, new Rng('soak'));
const net = extract(supernet, genotype);
supernet.dispose();
const crew = await Crew.start();
const training = await crew.train(net, {
  ...{ data, task: taskFor('classification'), indices: data.splits.train, batchSize: 64, path: ['soak'] },
  hyperparameters: { weightDecay: 5e-4, headRate: 1 },
});

const rows = [];
const began = performance.now();
let step = 0;
for (let check = 0; check <= checks; check++) {
  const until = (60_000 * minutes * check) / checks;
  // A constant rate: weights keep moving to the end.
  do training.step(step++, [genotype], 0.02);
  while (performance.now() - began < until);
  rows.push({
    minute: Number(((performance.now() - began) / 60_000).toFixed(1)),
    steps: step,
    rss_mb: Math.round(process.memoryUsage.rss() / 2 ** 20),
    tensors: memory().tensors,
    ...(python && differences(check)),
  });
  console.log(JSON.stringify(rows.at(-1)));
}
training.dispose();
await crew.close();
data.close();
console.table(rows);
// The first row is from before everything is warm.
const [, warm] = rows;
const grown = rows.at(-1).rss_mb - warm.rss_mb;
console.log(JSON.stringify({ bench: 'soak', engine: engine.name, minutes, grown_mb: grown, rows }));

/** One more step from today's weights, ours against double precision: the largest relative differences. */
function differences(check) {
  const weights = join(scratch, `weights-${check}.safetensors`);
  const [results, told] = [join(scratch, 'results.safetensors'), join(scratch, 'task.json')];
  writeFileSync(weights, writeSafetensors(net.tensors(), {}));
  const task = {
    ...{ work: 'verify', engine: 'wasm', space: frozenSpace(tinySpace, genotype), outputs, weights, results },
    ...{ steps: [[genotype]], candidates: [genotype], batch: 32, resolution: 32, folder: scratch, shift: 0 },
    ...{ calibration: 200, validation: 100, rate: 1000, limits: { logits: 1, updates: 1, candidates: 1 } },
    sgd: { momentum: 0.9, nesterov: true, clipNorm: 5, weightDecay: 1e-4, headRate: 2 },
  };
  const ours = spawnSync(process.execPath, [peer('ntaa.mjs')], {
    ...{ input: `${JSON.stringify(task)}\n`, encoding: 'utf8' },
  });
  if (ours.status !== 0) throw new Error(`our step failed: ${ours.stderr}`);
  writeFileSync(told, JSON.stringify(forTorch(task)));
  const { stdout, stderr } = spawnSync(python, [peer('torch_verify.py'), told, results], {
    encoding: 'utf8',
  });
  if (!stdout) throw new Error(`PyTorch failed: ${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1)).contiguous_format;
}
