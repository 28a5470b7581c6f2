// Whole jobs of tasks other than classification beside what somebody with PyTorch would do: the job's metric, its
// weights-only baseline's (WP&F), and that of the job's architecture trained from random weights with the task's usual
// recipe (bench/peers/torch_tasks.py) on the same images for the same wall time, or as many image passes.
// npm run bench -- tasks --task age|reid|gender|uda [--seconds 120 | --candidates 12] [--set NAME or archive]
//   [--source NAME or archive (uda)] [--seeds 1] [--first 0] [--no-torch] [--rate LEARNING_RATE of PyTorch]
// Sets: see bench/peers/task-sets.mjs. Prints a table, and JSON as its last line.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { adapt, prepareDomains, prepareTarget } from '../packages/adaptation/lib/index.js';
import { initEngine } from '../packages/engine/lib/index.js';
import { canonical, tinySpace } from '../packages/nas/lib/index.js';
import { builtinSupernet } from '../packages/supernet/lib/index.js';
import { taskFor } from '../packages/tasks/lib/index.js';
import { dataset, packs } from './peers/datasets.mjs';
import { findPython, fromScratch } from './peers/from-scratch.mjs';

const TASKS = {
  age: { task: 'age-estimation', set: 'faces', metric: ({ mae }) => mae },
  gender: { task: 'gender-recognition', set: 'emoji-gender', metric: (m) => 100 * m.balanced_accuracy },
  reid: { task: 're-identification', set: 'pedestrians', metric: ({ map }) => 100 * map },
  uda: { task: 'domain-adaptation', set: 'digits', source: 'mnist', metric: (m) => 100 * m.oracle.top1 },
};
const { values } = parseArgs({
  options: {
    task: { type: 'string', default: 'age' },
    seconds: { type: 'string', default: '120' },
    candidates: { type: 'string' },
    set: { type: 'string' },
    source: { type: 'string' },
    seeds: { type: 'string', default: '1' },
    first: { type: 'string', default: '0' },
    rate: { type: 'string' },
    'no-torch': { type: 'boolean', default: false },
  },
});
const { task: name, metric, ...usual } = TASKS[values.task];
const [set, from] = [values.set ?? usual.set, values.source ?? usual.source];
const budget = values.candidates
  ? { max_candidates: Number(values.candidates) }
  : { max_seconds: Number(values.seconds) };
const task = taskFor(name);
const scratch = mkdtempSync(join(tmpdir(), 'ntaa-bench-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));
const python = values['no-torch'] ? undefined : findPython();

const engine = await initEngine();
const target = await opened(set);
const source = from && (await opened(from));
const rows = [];
for (let seed = Number(values.first); seed < Number(values.first) + Number(values.seeds); seed++) {
  rows.push({ task: values.task, set, seed, ...(await compare(seed)) });
  console.log(JSON.stringify(rows.at(-1)));
}
console.table(rows.map(({ phases: _, choice: __, ...row }) => row));
console.log(JSON.stringify({ bench: 'tasks', engine: engine.name, budget, rows }));

async function opened(which) {
  const { folder, index } = await dataset(which, scratch);
  return { index, images: async () => join(folder, 'images.bin'), packed: await packs(folder, index, name) };
}

async function prepare(seed) {
  const folder = join(scratch, `job-${seed}`);
  mkdirSync(folder);
  const common = { seed, space: tinySpace, scratch: folder };
  return source
    ? prepareDomains({ ...common, source, target })
    : { heldOut: undefined, ...(await prepareTarget({ ...common, ...target, task: name })) };
}

async function compare(seed) {
  const { heldOut, ...data } = await prepare(seed);
  const began = Date.now();
  const outcome = await adapt({
    request: { kind: 'adapt', task: name, dataset: 'ds_bench', seed, budget },
    ...{ startedAt: began, data, heldOut, space: tinySpace, source: builtinSupernet().tensors },
    ports: {
      ...{ progress() {}, events() {}, candidates() {}, wanted: () => 'run', now: () => Date.now() },
      checkpoint: { load: async () => null, save: async () => {} },
    },
  });
  const seconds = (Date.now() - began) / 1000;
  const peers = source ? ['source-only', 'minimum-class-confusion'] : [name];
  const torch = python ? peers.map((recipe) => peerOf(recipe, data, heldOut, outcome, seed)) : [];
  data.close();
  outcome.net.dispose();
  outcome.bn.dispose();
  const round = (value) => Number(value.toFixed(2));
  return {
    test: outcome.metrics.images,
    ntaa: round(metric(outcome.metrics)),
    wpf: round(metric(outcome.baseline.metrics)),
    ...Object.fromEntries(torch.map(({ recipe, value }) => [`torch ${recipe}`, round(value)])),
    ...(outcome.metrics.constant_mae && { constant: round(outcome.metrics.constant_mae) }),
    mmacs: round(outcome.macs / 1e6),
    wpf_mmacs: round(outcome.baseline.macs / 1e6),
    genotype: canonical(outcome.genotype),
    seconds: Math.round(seconds),
    tau: outcome.search.rank_correlation,
    torch_epochs: torch.map(({ epochs }) => Math.round(epochs)).join(),
    judged: outcome.candidates.length,
    choice: choiceOf(outcome.gain),
    phases: outcome.seconds,
  };
}

/** The job's architecture in PyTorch, from random weights, on the images that the job trained and selected on. */
function peerOf(recipe, data, heldOut, outcome, seed) {
  const { train, validation, test } = data.splits;
  const { answers, ...peer } = fromScratch(
    { python, name, data, genotype: outcome.genotype, seed, scratch },
    {
      ...{ recipe, train: [...train, ...validation], test, threads: Math.min(2, availableParallelism()) },
      ...(values.candidates ? { passes: passesOf(outcome) } : { seconds: Number(values.seconds) }),
      ...(values.rate && { rate: Number(values.rate) }),
    },
  );
  return { value: metric(judged(answers, data, heldOut)), ...peer };
}

/** The task's own metrics, of the peer's answers for the test split. */
function judged(answers, data, heldOut) {
  const { test } = data.splits;
  const of = (all) => all && test.map((i) => all[i]);
  // Metrics of domain adaptation want source images, too: one is made up, and only the target's are read.
  const made = heldOut ? answers.length / test.length : 0;
  const predictions = new Float32Array(made + answers.length);
  predictions.set(answers, made);
  return task.metrics(predictions, {
    labels: Float32Array.from(heldOut ? [0, ...test.map(() => NaN)] : of(data.labelOf)),
    ...{ cameras: of(data.cameraOf), roles: of(data.roleOf), guess: data.guess, heldOut },
  });
}

/** How the search's best compared with the usual architecture; null: they are one. */
function choiceOf({ choice }) {
  return choice && { ...choice, genotype: canonical(choice.genotype) };
}

/** Image passes of the baseline, which are those of transfer and finetuning together. */
function passesOf({ curves }) {
  return curves.loss.find(({ network }) => network === 'baseline').images.at(-1);
}
