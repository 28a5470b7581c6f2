// What a training recipe or an architecture is worth on *validation* images, trained on training images alone.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { dataset } from '../bench/peers/datasets.mjs';
import { Crew } from '../packages/adaptation/lib/crew.js';
import { calibrationSubset, evaluateCandidate, fullExam } from '../packages/adaptation/lib/evaluate.js';
import { finetune } from '../packages/adaptation/lib/finetune.js';
import { initialiseHead } from '../packages/adaptation/lib/head.js';
import { prepareTarget } from '../packages/adaptation/lib/index.js';
import { Run } from '../packages/adaptation/lib/run.js';
import { freshState } from '../packages/adaptation/lib/state.js';
import { initEngine } from '../packages/engine/lib/index.js';
import {
  cost,
  largest,
  handDesigned,
  restrictResolutions,
  tinySpace,
  smallest,
} from '../packages/nas/lib/index.js';
import { Rng } from '../packages/random/lib/index.js';
import { builtinSupernet, extract, Supernet } from '../packages/supernet/lib/index.js';
import { taskFor } from '../packages/tasks/lib/index.js';

const { values: v } = parseArgs({
  options: {
    sets: { type: 'string' },
    seeds: { type: 'string', default: '0,1' },
    arms: { type: 'string' },
    epochs: { type: 'string', default: '60' },
    threads: { type: 'string', default: '2' },
  },
});
const scratch = mkdtempSync(join(tmpdir(), 'ntaa-tune-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
await initEngine();
const crew = await Crew.start(Number(v.threads));
const task = taskFor('classification');
const hand = (space) => handDesigned(space);
for (const set of v.sets.split(',')) {
  const { folder, index } = await dataset(set, scratch);
  for (const seed of v.seeds.split(',').map(Number)) {
    const packed = new Map();
    const data = await prepareTarget({
      images: async () => join(folder, 'images.bin'),
      index,
      seed,
      space: tinySpace,
      packed,
      scratch: folder,
    });
    for (const arm of v.arms.split(',')) {
      // ARCH@RES[+option=value...]
      const [what, ...options] = arm.split('+');
      const [name, resolution] = what.split('@');
      const o = Object.fromEntries(options.map((x) => x.split('=')));
      const space = restrictResolutions(tinySpace, [Number(resolution)]);
      const genotype = { hand: handDesigned, largest, smallest }[name](space);
      const policy = { ...data.policy };
      const mixing = Number(o.mix ?? 0);
      for (const k of Object.keys(policy))
        if (o[k] !== undefined) policy[k] = k === 'flip' ? o[k] === '1' : Number(o[k]);
      const given = { ...data, policy };
      const epochs = Number(o.epochs ?? v.epochs);
      const state = freshState();
      const ports = { progress() {}, events() {}, candidates() {}, wanted: () => 'run', now: Date.now };
      const run = new Run({
        ports: { ...ports, checkpoint: { load: async () => null, save: async () => {} } },
        crew,
        data: given,
        task,
        seed,
        state,
        constraints: {},
        axis: 'macs',
        weights: new Map(),
      });
      const outputs = data.labels.length;
      const supernet = Supernet.load(space, builtinSupernet().tensors, outputs, new Rng(seed, 'head'));
      const { train } = data.splits;
      state.plan.batchSize.finetune = train.length < 2000 ? 32 : 64;
      state.plan.mixing = mixing;
      initialiseHead(supernet, genotype, given, task, train, calibrationSubset(train, seed));
      const net = extract(supernet, genotype);
      supernet.dispose();
      const began = Date.now();
      const done = await finetune(run, net, {
        role: 'net',
        steps: Math.round((epochs * train.length) / state.plan.batchSize.finetune),
        part: [0, Number(o.part ?? 1)],
        deadline: null,
        message: '',
        images: train,
      });
      const seconds = (Date.now() - began) / 1000;
      const { loss, error, quality } = evaluateCandidate(done, genotype, given, task, fullExam(given, seed));
      const seen = evaluateCandidate(done, genotype, given, task, {
        ...fullExam(given, seed),
        validation: calibrationSubset(train, seed, data.splits.validation.length),
      });
      console.log(
        JSON.stringify({
          set: set.split('/').at(-1),
          seed,
          arm,
          macs: cost(space, genotype, outputs).macs,
          loss: +loss.toFixed(4),
          error: +error.toFixed(4),
          top1: +(100 * quality).toFixed(1),
          train: +(100 * seen.quality).toFixed(1),
          trainLoss: +seen.loss.toFixed(3),
          n: data.splits.validation.length,
          seconds: +seconds.toFixed(1),
        }),
      );
      done.dispose();
      net.dispose();
    }
    data.close();
  }
}
await crew.close();
