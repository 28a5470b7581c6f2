// What a recipe or an architecture is worth on *validation* images, trained from the source's weights on training images
// alone: what hyperparameters may be chosen by. Bounded by image passes, so that nothing depends on the machine.
// npm run experiments -- tune --arms ARCHITECTURE@RESOLUTION[+OPTION=VALUE ...],... [--task classification]
//   [--sets emoji,mnist or paths of archives] [--seeds 0,1: splits] [--epochs 60] [--threads 2] [--vary MODULE] [--trace 1]
// ARCHITECTURE: hand, largest, smallest; best, roomy, wide: what a search within the hand-designed one's multiply-accumulates chooses
// (see chosenBy); torch: the hand-designed one in PyTorch by the task's usual recipe (options epochs, rate).
// OPTION: epochs, mix (see Replica.backward), part (how much of the schedule is trained), batch, rate, decay, settle (see Task), start
// (source, random), transfer (so many of the epochs are joint transfer, before), candidates (that a transfer and its search judge), or one of
// the augmentation's. MODULE: its default export makes the task that is tried of (task, options).
// Domain adaptation: sets are SOURCE:TARGET, and `target` of what is printed is read with labels of the target's test images,
// which nothing that a job decides by may be. Prints a line of JSON for each, with --trace N so many during its training;
// `less` is its loss less that of the first arm, image by image, with the standard error.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { dataset } from '../bench/peers/datasets.mjs';
import { findPython, fromScratch } from '../bench/peers/from-scratch.mjs';
import { Crew } from '../packages/adaptation/lib/crew.js';
import {
  calibrationSubset,
  evaluateCandidate,
  fullExam,
  judgeCandidate,
} from '../packages/adaptation/lib/evaluate.js';
import { finetune, test } from '../packages/adaptation/lib/finetune.js';
import { initialiseHead } from '../packages/adaptation/lib/head.js';
import { prepareDomains, prepareTarget } from '../packages/adaptation/lib/index.js';
import { batchFor, makePlan } from '../packages/adaptation/lib/plan.js';
import { Run } from '../packages/adaptation/lib/run.js';
import { promising, search } from '../packages/adaptation/lib/search.js';
import { freshState } from '../packages/adaptation/lib/state.js';
import { truthOf } from '../packages/adaptation/lib/target-data.js';
import { transfer } from '../packages/adaptation/lib/transfer.js';
import { initEngine } from '../packages/engine/lib/index.js';
import {
  cost,
  Distribution,
  handDesigned,
  headOutputs,
  largest,
  meanOf,
  restrictResolutions,
  smallest,
  standardError,
  taskSpace,
  tinySpace,
} from '../packages/nas/lib/index.js';
import { Rng } from '../packages/random/lib/index.js';
import { builtinSupernet, extract, Supernet } from '../packages/supernet/lib/index.js';
import { taskFor } from '../packages/tasks/lib/index.js';

const ARCHITECTURES = { hand: handDesigned, largest, smallest, torch: handDesigned };
const SEARCHED = ['best', 'roomy', 'wide'];
const { values } = parseArgs({
  args: process.argv.slice(3),
  options: {
    arms: { type: 'string' },
    task: { type: 'string', default: 'classification' },
    sets: { type: 'string', default: 'emoji' },
    seeds: { type: 'string', default: '0,1' },
    epochs: { type: 'string', default: '60' },
    threads: { type: 'string', default: '2' },
    vary: { type: 'string' },
    trace: { type: 'string', default: '1' },
  },
});
/** Runs, by data and what they were made with. */
const transfers = new Map();
const scratch = mkdtempSync(join(tmpdir(), 'ntaa-tune-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));
await initEngine();
const crew = await Crew.start(Number(values.threads));
const name = values.task;
const usual = taskFor(name);
const vary = values.vary ? (await import(resolve(values.vary))).default : (task) => task;
if (values.vary && values.threads !== '1') throw new Error('a task can be varied on one thread: --threads 1');
for (const set of values.sets.split(',')) {
  const domains = [];
  for (const which of set.split(':')) domains.push(await opened(which));
  for (const seed of values.seeds.split(',').map(Number)) {
    const { data, heldOut } = await prepared(domains, seed);
    let first;
    for (const arm of values.arms.split(',')) {
      const { architecture, resolution, ...options } = parsed(arm);
      const space = restrictResolutions(taskSpace(name, tinySpace, data.aspect), [Number(resolution)]);
      const genotype = SEARCHED.includes(architecture)
        ? chosenBy(architecture, await transferred({ data, seed, space, options }), space)
        : ARCHITECTURES[architecture](space);
      const trained = architecture === 'torch' ? inPyTorch : finetuned;
      const tell = (more) => console.log(JSON.stringify({ set: basename(set), seed, arm, ...more }));
      const { losses, ...result } = await trained({ data, heldOut, seed, space, genotype, options, tell });
      first ??= losses;
      tell({ ...result, ...(losses && losses !== first && { less: lossLess(losses, first) }) });
    }
    data.close();
  }
}
await crew.close();

async function opened(which) {
  const { folder, index } = await dataset(which, scratch);
  return { folder, given: { images: async () => join(folder, 'images.bin'), index, packed: new Map() } };
}

/** `heldOut`: see prepareDomains. */
async function prepared([first, second], seed) {
  const common = { seed, space: tinySpace, scratch: first.folder };
  if (!second) return { data: await prepareTarget({ ...common, ...first.given, task: name }) };
  const { heldOut, ...data } = await prepareDomains({ ...common, source: first.given, target: second.given });
  return { data, heldOut };
}

function parsed(arm) {
  const [what, ...settings] = arm.split('+');
  const [architecture, resolution] = what.split('@');
  const options = Object.fromEntries(settings.map((setting) => setting.split('=')));
  return { architecture, resolution, epochs: values.epochs, ...options };
}

async function finetuned({ data: whole, heldOut, seed, space, genotype, options, tell }) {
  const { epochs, mix, part = 1, batch, rate, decay, settle, transfer: before = 0, ...others } = options;
  const augmentation = Object.fromEntries(
    Object.entries(others)
      .filter(([key]) => key in whole.policy || key === 'crisp')
      .map(([key, value]) => [key, Number(value)]),
  );
  const data = { ...whole, policy: { ...whole.policy, ...augmentation } };
  const task = { ...vary(usual, options), ...(settle && { settles: Number(settle) }) };
  const { train, validation } = data.splits;
  const adapted = Number(before) > 0 ? await transferred({ data: whole, seed, space, options }) : null;
  const run = freshRun({ data, task, seed });
  const { state } = run;
  state.plan.batchSize.finetune = Number(batch ?? batchFor(train.length, false, task.leastBatch));
  state.plan.mixing = Number(mix ?? adapted?.state.plan.mixing ?? 0);
  const outputs = headOutputs(name, data.labels.length);
  const net = adapted
    ? inherited(adapted, space, outputs, genotype, seed)
    : startingPoint({ start: options.start, space, outputs, genotype, data, task, seed });
  const began = Date.now();
  const onTarget = (made) => heldOut && { target: targetOf(run, made, genotype, heldOut) };
  const pieces = Number(values.trace);
  let done;
  for (let i = 0; i < pieces; i++) {
    done?.dispose();
    done = await finetune(run, net, {
      ...{ role: 'net', deadline: null, message: '', images: train },
      ...(rate && { peak: Number(rate) }),
      ...(decay && { weightDecay: Number(decay) }),
      part: [(Number(part) * i) / pieces, (Number(part) * (i + 1)) / pieces],
      steps: Math.round(((Number(epochs) - Number(before)) * train.length) / state.plan.batchSize.finetune),
    });
    const loss = state.curves.loss.net?.at(-1)?.loss;
    if (i + 1 < pieces) tell({ fraction: (i + 1) / pieces, loss, ...onTarget(done) });
  }
  const seconds = (Date.now() - began) / 1000;
  const statistics = run.weights.get('net.bn');
  const exam = fullExam(data, seed);
  const judged = (images) =>
    rounded(evaluateCandidate(done, genotype, data, task, { ...exam, validation: images }, statistics));
  const seen = judged(calibrationSubset(train, seed, validation.length));
  const unseen = judged(validation);
  const { losses } = judgeCandidate(done, genotype, data, task, exam, statistics);
  const target = onTarget(done);
  done.dispose();
  net.dispose();
  const { macs } = cost(space, genotype, outputs);
  const { mixing } = state.plan;
  return {
    macs,
    mixing,
    seconds,
    training: seen,
    validation: unseen,
    images: validation.length,
    losses,
    ...target,
  };
}

function freshRun({ data, task, seed, constraints = {} }) {
  const checkpoint = { load: async () => null, save: async () => {} };
  const ports = {
    progress() {},
    events() {},
    candidates() {},
    wanted: () => 'run',
    now: Date.now,
    checkpoint,
  };
  const settled = { constraints, axis: 'macs', weights: new Map() };
  return new Run({ ports, crew, data, task, seed, state: freshState(), ...settled });
}

/** The run of a joint transfer and the search after it, with its supernet's weights; each is made once. */
async function transferred({ data, seed, space, options }) {
  const { transfer: epochs, candidates = 16 } = options;
  const { train } = data.splits;
  const key = JSON.stringify([seed, epochs, candidates, space.resolutions]);
  const known = transfers.get(data)?.get(key);
  if (known) return known;
  const outputs = headOutputs(name, data.labels.length);
  const constraints = { max_macs: cost(space, handDesigned(space), outputs).macs };
  const run = freshRun({ data, task: usual, seed, constraints });
  const { state } = run;
  const sizes = { train: train.length, trainAndValidation: train.length, leastBatch: usual.leastBatch };
  const times = { now: 0, startedAt: 0, speeds: null };
  state.plan = makePlan({
    ...{ budget: { max_candidates: Number(candidates) }, baseline: false },
    ...sizes,
    ...times,
  });
  state.plan.transferSteps = Math.round((Number(epochs) * train.length) / state.plan.batchSize.transfer);
  state.distribution = Distribution.uniform(space).toJSON();
  const net = Supernet.load(space, builtinSupernet().tensors, outputs, new Rng(seed, 'head'));
  initialiseHead(net, largest(space), data, usual, train, calibrationSubset(train, seed));
  await transfer(run, net);
  state.phase = 'search';
  await search(run, net);
  net.dispose();
  transfers.set(data, (transfers.get(data) ?? new Map()).set(key, run));
  return run;
}

/**
 * `best`: of least validation loss. `roomy`: of the dearer half (see promising). `wide`: the dearest of those within a standard
 * error of the least loss.
 */
function chosenBy(rule, run, space) {
  const { archive, version } = run.state;
  if (rule !== 'wide') return promising(run, handDesigned(space))[rule];
  const allowed = archive.filter((one) => one.version === version && one.macs <= run.constraints.max_macs);
  const best = allowed.reduce((a, b) => (b.loss < a.loss ? b : a));
  const close = allowed.filter(({ loss }) => loss <= best.loss + best.error);
  return close.reduce((a, b) => (b.macs > a.macs ? b : a)).genotype;
}

function inherited(run, space, outputs, genotype, seed) {
  const supernet = Supernet.load(space, run.weights.get('supernet'), outputs, new Rng(seed, 'head'));
  const net = extract(supernet, genotype);
  supernet.dispose();
  return net;
}

/** Of the target's test images: accuracy, how sure and how different the answers are, and the share of the commonest. */
function targetOf(run, net, genotype, heldOut) {
  const { metrics, bn, predictions } = test(run, { net, genotype, role: 'net' }, heldOut);
  bn.dispose();
  const { outputs } = net;
  const counts = new Array(outputs).fill(0);
  for (let row = 0; row < predictions.length; row += outputs) {
    const logits = predictions.subarray(row, row + outputs);
    counts[logits.indexOf(Math.max(...logits))] += outputs / predictions.length;
  }
  const { oracle, confidence, information } = metrics;
  return short({ top1: oracle.top1, confidence, information, most: Math.max(...counts) });
}

/** The architecture with the source's weights and a fitted head, or with random weights and a head of zeros. */
function startingPoint({ start = 'source', space, outputs, genotype, data, task, seed }) {
  const random = start === 'random';
  const supernet = random
    ? Supernet.initialise(space, outputs, new Rng(seed, 'random'))
    : Supernet.load(space, builtinSupernet().tensors, outputs, new Rng(seed, 'head'));
  const { train } = data.splits;
  if (!random) initialiseHead(supernet, genotype, data, task, train, calibrationSubset(train, seed));
  const net = extract(supernet, genotype);
  supernet.dispose();
  return net;
}

function inPyTorch({ data, seed, genotype, options: { epochs, rate } }) {
  const { train, validation } = data.splits;
  const { answers, seconds } = fromScratch(
    { python: findPython(), name, data, genotype, seed, scratch },
    {
      ...{ train, test: validation, passes: Number(epochs) * train.length, threads: Number(values.threads) },
      ...(rate && { rate: Number(rate) }),
    },
  );
  const { losses, quality, summary } = usual.judge(answers, truthOf(data, validation));
  const loss = losses.reduce((sum, value) => sum + value, 0) / losses.length;
  return {
    seconds,
    validation: rounded({ loss, quality, metrics: summary }),
    images: validation.length,
    losses,
  };
}

/** Mean of the difference of losses, image by image, and its standard error. */
function lossLess(losses, first) {
  const differences = losses.map((loss, i) => loss - first[i]);
  return short({ loss: meanOf(differences), error: standardError(differences) });
}

function rounded({ loss, quality, metrics }) {
  return short({ loss, quality, ...metrics });
}

function short(values) {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, Number(value.toFixed(4))]));
}
