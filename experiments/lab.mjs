// What all experiments share: the image set, one adaptation job a seed, networks trained from chosen weights, and a cache
// of everything that took time. Bounded by candidates and steps, never by the clock: results are a function of the seed.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { dataset } from '../bench/peers/datasets.mjs';
import { begin } from '../packages/adaptation/lib/begin.js';
import { decodeCheckpoint, encodeCheckpoint } from '../packages/adaptation/lib/checkpoint.js';
import { Crew } from '../packages/adaptation/lib/crew.js';
import { calibrationSubset } from '../packages/adaptation/lib/evaluate.js';
import { finetune, finetuningImages, test } from '../packages/adaptation/lib/finetune.js';
import { initialiseHead } from '../packages/adaptation/lib/head.js';
import { adapt, Interrupted, prepareTarget, pretrain } from '../packages/adaptation/lib/index.js';
import { Run } from '../packages/adaptation/lib/run.js';
import { freshState } from '../packages/adaptation/lib/state.js';
import { truthOf } from '../packages/adaptation/lib/target-data.js';
import { initEngine } from '../packages/engine/lib/index.js';
import {
  cost,
  Distribution,
  frozenSpace,
  handDesigned,
  restrictResolutions,
} from '../packages/nas/lib/index.js';
import { tinySpace } from '../packages/nas/lib/index.js';
import { Rng } from '../packages/random/lib/index.js';
import { builtinSupernet, extract, readSafetensors, Supernet } from '../packages/supernet/lib/index.js';
import { writeSafetensors } from '../packages/supernet/lib/index.js';
import { taskFor } from '../packages/tasks/lib/index.js';

const at = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const CACHE = at('.cache/experiments');
/** Thrown between two pieces of work: what is done is kept, the same command goes on. */
export class OutOfTime extends Error {}

export async function openLab(options) {
  const lab = new Lab(options);
  lab.engine = (await initEngine()).name;
  lab.crew = await Crew.start(options.threads);
  return lab;
}

class Lab {
  #scratch = mkdtempSync(join(tmpdir(), 'ntaa-experiments-'));
  #sets = new Map();
  #targets = new Map();
  #began = Date.now();
  task = taskFor('classification');
  builtin = builtinSupernet();

  constructor({ set, candidates, resolution, epochs, minutes, threads, without }) {
    this.settings = { set, candidates, resolution, epochs };
    this.space = restrictResolutions(tinySpace, [resolution]);
    Object.assign(this, { minutes, threads, without, code: codeHash() });
    mkdirSync(CACHE, { recursive: true });
    process.on('exit', () => rmSync(this.#scratch, { recursive: true, force: true }));
    process.on('SIGINT', () => process.exit(130));
  }

  async close() {
    for (const target of this.#targets.values()) target.close();
    await this.crew.close();
  }

  /** `make()`, or what it gave before. `key`: what it is, beside settings, engine, source weights and code. */
  async cached(key, make) {
    const { settings, engine, code, builtin } = this;
    const determined = JSON.stringify({ ...settings, ...key, engine, code, source: builtin.sha256 });
    const hash = createHash('sha256').update(determined).digest('hex').slice(0, 24);
    const file = join(CACHE, `${hash}.json`);
    if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')).result;
    if (Date.now() - this.#began > 60_000 * this.minutes) throw new OutOfTime();
    const began = Date.now();
    const result = await make();
    const seconds = (Date.now() - began) / 1000;
    console.log(`${JSON.stringify(key)}  ${seconds.toFixed(1)} s  ${result.top1 ?? ''}`);
    writeFileSync(`${file}.${process.pid}`, JSON.stringify({ key, settings, seconds, result }));
    renameSync(`${file}.${process.pid}`, file);
    return result;
  }

  /** The images of `split`, another one for each seed. */
  async target(split, set = this.settings.set) {
    const name = `${set} ${split}`;
    if (!this.#sets.has(set)) this.#sets.set(set, await dataset(set, this.#scratch));
    const { folder, index } = this.#sets.get(set);
    if (!this.#targets.has(name)) {
      const scratch = mkdtempSync(join(this.#scratch, 'split-'));
      const images = async () => join(folder, 'images.bin');
      const given = { images, index, seed: split, space: this.space, packed: new Map(), scratch };
      this.#targets.set(name, await prepareTarget(given));
    }
    return this.#targets.get(name);
  }

  /** The weights-only architecture: what bounds everybody's multiply-accumulates. */
  get hand() {
    return handDesigned(this.space);
  }

  macs(genotype, outputs) {
    return cost(this.space, genotype, outputs).macs;
  }

  /** Different architectures of `least` to `most` times the hand-designed one's multiply-accumulates, drawn uniformly. */
  draw(count, [least, most], ...path) {
    const rng = new Rng('experiments', ...path);
    const uniform = Distribution.uniform(this.space);
    const limit = this.macs(this.hand, 10);
    const found = new Map();
    while (found.size < count) {
      const genotype = uniform.sample(rng);
      const share = this.macs(genotype, 10) / limit;
      if (share >= least && share <= most) found.set(JSON.stringify(genotype), genotype);
    }
    return [...found.values()];
  }

  /**
   * A whole job without its baseline, within the hand-designed network's multiply-accumulates. `found`: the best architecture of its
   * search, which it takes only where it is better than the hand-designed one by three standard errors.
   */
  async job(seed, { split = seed, set = this.settings.set, transferOnly = false } = {}) {
    const key = { what: transferOnly ? 'transfer' : 'job', seed, split, set };
    const result = await this.cached(key, () => this.#adapt(seed, split, set, transferOnly));
    const { tensors } = readSafetensors(Buffer.from(result.supernet, 'base64'));
    const { choice, genotype } = result;
    return { ...result, supernet: tensors, found: choice?.genotype ?? genotype };
  }

  async #adapt(seed, split, set, transferOnly) {
    const data = await this.target(split, set);
    const max_macs = this.macs(this.hand, data.labels.length);
    let [supernet, last, wanted] = [null, null, 'run'];
    const save = async (bytes) => {
      const { state, weights } = decodeCheckpoint(bytes);
      last = state;
      if (state.phase !== 'search' || state.step > 0) return;
      supernet ??= Buffer.from(writeSafetensors(weights.get('supernet'), {})).toString('base64');
      if (transferOnly) wanted = 'cancel';
    };
    const checkpoint = { load: async () => null, save };
    const ports = { ...idle(), wanted: () => wanted };
    const given = {
      request: {
        ...{ kind: 'adapt', task: 'classification', dataset: 'ds_experiment', baseline: false, seed },
        ...{ budget: { max_candidates: this.settings.candidates }, constraints: { max_macs } },
      },
      ...{ startedAt: Date.now(), data, space: this.space, source: this.builtin.tensors },
      ...{ threads: this.threads, ports: { ...ports, checkpoint } },
    };
    const planned = await this.#planned(given);
    checkpoint.load = async () => planned;
    try {
      const outcome = await adapt(given);
      outcome.net.dispose();
      outcome.bn.dispose();
      const { archive, plan, passes, choice } = last;
      return {
        ...this.#graded(data, outcome.metrics, outcome.predictions),
        ...{ genotype: outcome.genotype, macs: outcome.macs, params: outcome.params, passes, choice },
        ...{ tau: last.tau, mixing: plan.mixing },
        transferPasses: plan.transferSteps * plan.batchSize.transfer,
        archive: archive.map(({ key, macs, loss, error, quality }) => ({ key, macs, loss, error, quality })),
        ...{ seconds: outcome.seconds, supernet },
      };
    } catch (error) {
      if (!(error instanceof Interrupted && transferOnly)) throw error;
      return { supernet, mixing: last.plan.mixing };
    }
  }

  /**
   * A job that trains no weight (`paradigm: linear-evaluation`), within the same multiply-accumulates.
   * `source`: `{ of, tensors }`, the frozen weights.
   */
  async probed(seed, source) {
    return this.cached({ what: 'probed', seed, weights: source.of }, async () => {
      const data = await this.target(seed);
      const max_macs = this.macs(this.hand, data.labels.length);
      const outcome = await adapt({
        request: {
          ...{ kind: 'adapt', task: 'classification', dataset: 'ds_experiment', baseline: false, seed },
          ...{ paradigm: 'linear-evaluation', budget: { max_candidates: this.settings.candidates } },
          constraints: { max_macs },
        },
        ...{ startedAt: Date.now(), data, space: this.space, source: source.tensors },
        ...{ threads: this.threads, ports: idle() },
      });
      outcome.net.dispose();
      outcome.bn.dispose();
      const { genotype, macs, seconds, metrics, predictions } = outcome;
      return { ...this.#graded(data, metrics, predictions), genotype, macs, passes: 0, seconds };
    });
  }

  /** A supernet pretrained from random weights on the seed's training images, their labels unread: `{ of, tensors }`. */
  async unlabelled(seed, epochs) {
    const kept = await this.cached({ what: 'unlabelled', seed, epochs }, async () => {
      const data = await this.target(seed);
      const { augmentation } = taskFor('self-supervised');
      const labels = { labels: [], labelOf: new Float32Array(data.labelOf.length).fill(NaN) };
      const { tensors } = await pretrain({
        data: { ...data, ...labels, policy: { ...data.policy, ...augmentation } },
        ...{ paradigm: 'self-supervised', space: this.space, seed, startedAt: Date.now(), ports: idle() },
        ...{ budget: { max_epochs: epochs }, threads: this.threads },
      });
      const supernet = Buffer.from(writeSafetensors(tensors, {})).toString('base64');
      return { supernet };
    });
    const { tensors } = readSafetensors(Buffer.from(kept.supernet, 'base64'));
    return { of: `unlabelled ${seed} ${epochs}`, tensors };
  }

  /** Weights of the seed, as they are before any training. */
  random(seed) {
    const net = Supernet.initialise(this.space, 2, new Rng(seed, 'random'));
    const tensors = net.tensors();
    net.dispose();
    return { of: `random ${seed}`, tensors };
  }

  /** A job that has not begun, as a checkpoint: candidates decide its epochs, so a smaller budget is written into its plan. */
  async #planned(given) {
    const { state, weights } = await begin(given, this.crew);
    const { plan } = state;
    const [train, all] = [given.data.splits.train.length, finetuningImages({ data: given.data }).length];
    plan.transferSteps = Math.round((this.settings.epochs * train) / plan.batchSize.transfer);
    plan.finetuneSteps = Math.round((5 * this.settings.epochs * all) / plan.batchSize.finetune);
    return encodeCheckpoint(state, weights);
  }

  /** Whether each test image was told right, as a string of 0 and 1. */
  #graded(data, metrics, predictions) {
    const { right } = this.task.hits(predictions, truthOf(data, data.splits.test));
    return { top1: metrics.top1, loss: metrics.loss, right: Array.from(right, Number).join('') };
  }

  /**
   * Trains `genotype` for `passes` image passes from `weights` (`source`, `random`, or `{ of, tensors }`: an adapted
   * supernet's) under the schedule of finetuning, on training and validation images, and reads the test split.
   */
  async trained(genotype, { seed, split = seed, set = this.settings.set, weights, passes, mixing = 0 }) {
    const from = weights.of ?? weights;
    const key = { what: 'trained', genotype, seed, split, set, weights: from, passes, mixing };
    return this.cached(key, async () => {
      const data = await this.target(split, set);
      const run = this.run(data, seed);
      run.state.plan.mixing = mixing;
      const net = this.#start(run, genotype, weights);
      const began = Date.now();
      const done = await finetune(run, net, {
        ...{ role: 'net', steps: Math.round(passes / run.state.plan.batchSize.finetune), part: [0, 1] },
        ...{ deadline: null, message: '', images: finetuningImages(run) },
      });
      const seconds = (Date.now() - began) / 1000;
      const { metrics, bn, predictions } = test(run, { net: done, genotype, role: 'net' });
      bn.dispose();
      done.dispose();
      net.dispose();
      const macs = this.macs(genotype, data.labels.length);
      return { ...this.#graded(data, metrics, predictions), genotype, macs, passes, seconds };
    });
  }

  #start(run, genotype, weights) {
    const outputs = run.data.labels.length;
    if (weights === 'random')
      return Supernet.initialise(frozenSpace(this.space, genotype), outputs, new Rng(run.seed, 'scratch'));
    const tensors = weights === 'source' ? this.builtin.tensors : weights.tensors;
    const supernet = Supernet.load(this.space, tensors, outputs, new Rng(run.seed, 'head'));
    // As WP&F does: a head that fits the source's features. An adapted supernet brings its own.
    if (weights === 'source') {
      const images = finetuningImages(run);
      initialiseHead(supernet, genotype, run.data, this.task, images, calibrationSubset(images, run.seed));
    }
    const net = extract(supernet, genotype);
    supernet.dispose();
    return net;
  }

  /** A job that does one thing: what the stages of the product take. */
  run(data, seed) {
    const state = freshState();
    return new Run({
      ...{ ports: idle(), crew: this.crew, data, task: this.task, seed, state },
      ...{ constraints: {}, axis: 'macs', weights: new Map() },
    });
  }
}

/** Ports of a job that nobody watches. */
function idle() {
  const checkpoint = { load: async () => null, save: async () => {} };
  return { progress() {}, events() {}, candidates() {}, wanted: () => 'run', now: Date.now, checkpoint };
}

/** Of the built packages that decide results: a cache must not outlive them. */
function codeHash() {
  const hash = createHash('sha256');
  for (const room of ['adaptation', 'data', 'engine', 'nas', 'random', 'supernet', 'tasks'])
    for (const file of readdirSync(at(`packages/${room}/lib`), { recursive: true }).sort())
      if (/\.(js|wasm)$/.test(file)) hash.update(readFileSync(join(at(`packages/${room}/lib`), file)));
  return hash.digest('hex').slice(0, 16);
}
