// What a recipe or an architecture is worth on *validation* images, trained from the source's weights on training images
// alone: what hyperparameters may be chosen by.
// npm run experiments -- tune --arms ARCHITECTURE@RESOLUTION[+OPTION=VALUE ...],... [--sets emoji,mnist or paths of archives]
//   [--seeds 0,1: splits] [--epochs 60] [--threads 2]
// ARCHITECTURE: hand, largest, smallest. OPTION: epochs, mix (see Replica.backward), part (how much of the schedule is trained), or one of
// the augmentation's. Prints a line of JSON for each.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { dataset } from '../bench/peers/datasets.mjs';
import { Crew } from '../packages/adaptation/lib/crew.js';
import { calibrationSubset, evaluateCandidate, fullExam } from '../packages/adaptation/lib/evaluate.js';
import { finetune } from '../packages/adaptation/lib/finetune.js';
import { initialiseHead } from '../packages/adaptation/lib/head.js';
import { prepareTarget } from '../packages/adaptation/lib/index.js';
import { batchFor } from '../packages/adaptation/lib/plan.js';
import { Run } from '../packages/adaptation/lib/run.js';
import { freshState } from '../packages/adaptation/lib/state.js';
import { initEngine } from '../packages/engine/lib/index.js';
import {
  cost,
  handDesigned,
  largest,
  restrictResolutions,
  smallest,
  tinySpace,
} from '../packages/nas/lib/index.js';
import { Rng } from '../packages/random/lib/index.js';
import { builtinSupernet, extract, Supernet } from '../packages/supernet/lib/index.js';
import { taskFor } from '../packages/tasks/lib/index.js';

const { values } = parseArgs({
  args: process.argv.slice(3),
  options: {
    arms: { type: 'string' },
    sets: { type: 'string', default: 'emoji' },
    seeds: { type: 'string', default: '0,1' },
    epochs: { type: 'string', default: '60' },
    threads: { type: 'string', default: '2' },
  },
});
const scratch = mkdtempSync(join(tmpdir(), 'ntaa-tune-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
await initEngine();
const crew = await Crew.start(Number(values.threads));
const task = taskFor('classification');
for (const set of values.sets.split(',')) {
  const { folder, index } = await dataset(set, scratch);
  for (const seed of values.seeds.split(',').map(Number)) {
    const given = { images: async () => join(folder, 'images.bin'), index, seed, space: tinySpace };
    const data = await prepareTarget({ ...given, packed: new Map(), scratch: folder });
    for (const arm of values.arms.split(','))
      console.log(JSON.stringify({ set: basename(set), seed, arm, ...(await measured(data, seed, arm)) }));
    data.close();
  }
}
await crew.close();

async function measured(whole, seed, arm) {
  const [what, ...settings] = arm.split('+');
  const [name, resolution] = what.split('@');
  const { epochs, mix, part, ...augmentation } = {
    ...{ epochs: values.epochs, mix: 0, part: 1 },
    ...Object.fromEntries(settings.map((setting) => setting.split('='))),
  };
  const changed = Object.fromEntries(
    Object.entries(augmentation).map(([key, value]) => [key, Number(value)]),
  );
  const data = { ...whole, policy: { ...whole.policy, ...changed } };
  const space = restrictResolutions(tinySpace, [Number(resolution)]);
  const genotype = { hand: handDesigned, largest, smallest }[name](space);
  const { train, validation } = data.splits;
  const state = freshState();
  state.plan.batchSize.finetune = batchFor(train.length);
  state.plan.mixing = Number(mix);
  const checkpoint = { load: async () => null, save: async () => {} };
  const ports = {
    progress() {},
    events() {},
    candidates() {},
    wanted: () => 'run',
    now: Date.now,
    checkpoint,
  };
  const settled = { constraints: {}, axis: 'macs', weights: new Map() };
  const run = new Run({ ports, crew, data, task, seed, state, ...settled });
  const outputs = data.labels.length;
  const supernet = Supernet.load(space, builtinSupernet().tensors, outputs, new Rng(seed, 'head'));
  initialiseHead(supernet, genotype, data, task, train, calibrationSubset(train, seed));
  const net = extract(supernet, genotype);
  supernet.dispose();
  const began = Date.now();
  const done = await finetune(run, net, {
    ...{ role: 'net', part: [0, Number(part)], deadline: null, message: '', images: train },
    steps: Math.round((Number(epochs) * train.length) / state.plan.batchSize.finetune),
  });
  const seconds = (Date.now() - began) / 1000;
  const exam = fullExam(data, seed);
  const judged = (images) => {
    const { loss, quality } = evaluateCandidate(done, genotype, data, task, { ...exam, validation: images });
    return { loss: Number(loss.toFixed(4)), top1: Number((100 * quality).toFixed(1)) };
  };
  const seen = judged(calibrationSubset(train, seed, validation.length));
  const unseen = judged(validation);
  done.dispose();
  net.dispose();
  const { macs } = cost(space, genotype, outputs);
  return { macs, seconds, training: seen, validation: unseen, images: validation.length };
}
