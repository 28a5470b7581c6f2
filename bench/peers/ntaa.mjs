// A measured process of ours; what it is told and what it answers is in bench/engine.mjs.
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Gradients, initEngine, Sgd, tf } from '@ntaa/engine';
import { PackedImages } from '@ntaa/data';
import { Rng } from '@ntaa/random';
import { calibrate, readSafetensors, Supernet, writeSafetensors } from '@ntaa/supernet';
import { taskFor } from '@ntaa/tasks';
import { Crew } from '../../packages/adaptation/lib/crew.js';
import { evaluateCandidate, predictAll, recalibrate } from '../../packages/adaptation/lib/evaluate.js';
import { evaluationBatches } from '../../packages/adaptation/lib/target-data.js';
import { sandwichGradients, trainable } from '../../packages/adaptation/lib/train.js';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const told = JSON.parse((await lines.next()).value);
const { space, outputs, batch, resolution } = told;
const engine = await initEngine(told.engine);
const rng = new Rng('bench engine');
const task = taskFor('classification');

const works = {
  train() {
    const net = network();
    const { params, update } = trainer(net);
    const [images, targets] = [randomImages(), randomTargets()];
    const sums = new Gradients(params);
    return () => {
      for (const genotypes of told.steps) {
        backward(net, genotypes, images, targets, sums);
        update(sums);
      }
    };
  },

  async crew() {
    const data = randomTarget(4 * batch, 0);
    const crew = await Crew.start(told.threads);
    const { weightDecay, headRate } = told.sgd;
    const training = await crew.train(network(), {
      ...{ data, task, batchSize: batch, indices: data.splits.train, path: ['bench'] },
      hyperparameters: { weightDecay, headRate },
    });
    let step = 0;
    return () => told.steps.forEach((genotypes) => training.step(step++, genotypes, told.rate));
  },

  forward() {
    const net = network();
    const [genotype] = told.steps[0];
    const images = randomImages();
    const bn = calibrate(net, genotype, [images]);
    return () => tf.tidy(() => void net.forward(images, genotype, bn).logits.dataSync());
  },

  candidates() {
    const net = network();
    const data = randomTarget(told.calibration, told.validation);
    const { train: calibration, validation } = data.splits;
    const exam = { calibration, validation };
    return () => told.steps.flat().forEach((genotype) => evaluateCandidate(net, genotype, data, task, exam));
  },
};

const network = () => Supernet.initialise(space, outputs, rng);

function trainer(net) {
  const params = trainable(net, told.sgd);
  const sgd = new Sgd(told.sgd);
  return { params, update: (sums) => sgd.step(params, sums, told.rate) };
}

function backward(net, genotypes, images, targets, sums) {
  sums.clear();
  sandwichGradients(net, genotypes, { images: () => images, objective: targets }, sums);
}

const noise = (size) => Float32Array.from({ length: size }, () => rng.normal());

function randomImages() {
  const shape = [batch, resolution, resolution, 3];
  return tf.tensor(noise(batch * resolution ** 2 * 3), shape);
}

function randomTargets() {
  const labels = Float32Array.from({ length: batch }, () => rng.int(outputs));
  const targets = task.objective({ labels, outputs, unlabelled: false, progress: 1 });
  return tf.tensor(targets, [batch, outputs]);
}

/** Images of noise as a job has them, packed in a file; they are not augmented. */
function randomTarget(train, validation) {
  const count = train + validation;
  const file = join(told.folder, `packed-${process.pid}.bin`);
  writeFileSync(file, randomBytes(count * resolution ** 2 * 3));
  const places = [...Array(count).keys()];
  return {
    labels: Array.from({ length: outputs }, (_, i) => `label ${i}`),
    labelOf: Float32Array.from(places, () => rng.int(outputs)),
    splits: { train: places.slice(0, train), validation: places.slice(train), test: [] },
    packs: new Map([[resolution, new PackedImages(file, count, resolution, resolution)]]),
    preprocessing: { mean: [0.5, 0.5, 0.5], std: [0.3, 0.3, 0.3], scale: 1 / 255 },
    policy: null,
  };
}

/** What torch_verify.py compares with: weights, images, and what comes of them. */
function writeResults(file) {
  const first = told.weights
    ? Supernet.load(space, readSafetensors(readFileSync(told.weights)).tensors, outputs, rng)
    : Supernet.initialise(space, outputs, rng);
  const noisy = told.weights ? 0 : 0.2;
  const weights = new Map();
  // Batch norms, biases and kernel transforms must not be at their special initial values.
  for (const [name, { shape, data }] of first.tensors()) {
    const shift = name.endsWith('.bn.beta') ? told.shift : 0;
    weights.set(name, { shape, data: data.map((x) => x + shift + noisy * rng.normal()) });
  }
  const load = () => Supernet.load(space, weights, outputs, rng);
  const results = new Map();
  const put = (name, shape, data) => results.set(name, { shape, data });
  const putAll = (prefix, tensors) => tensors.forEach((t, name) => put(prefix + name, t.shape, t.data));
  const [images, targets] = [randomImages(), randomTargets()];
  put('images', images.shape, images.dataSync());
  put('targets', targets.shape, targets.dataSync());
  putAll('weights.', load().tensors());
  told.steps.forEach((genotypes, i) => {
    const net = load();
    genotypes.forEach((genotype, j) => {
      const { logits } = net.forward(images, genotype, 'batch');
      put(`step${i}.logits${j}`, logits.shape, logits.dataSync());
    });
    const { params, update } = trainer(net);
    const sums = new Gradients(params);
    backward(net, genotypes, images, targets, sums);
    update(sums);
    putAll(`step${i}.weights.`, net.tensors());
  });
  const data = randomTarget(told.calibration, told.validation);
  for (const [name, split] of Object.entries({ calibration: 'train', validation: 'validation' })) {
    const indices = data.splits[split];
    for (const x of evaluationBatches(data, indices, resolution, indices.length))
      put(name, x.shape, x.dataSync().slice());
  }
  told.candidates.forEach((genotype, j) => {
    const net = load();
    const bn = recalibrate(net, genotype, data, data.splits.train);
    const logits = predictAll(net, genotype, bn, data, data.splits.validation);
    put(`candidate${j}.logits`, [told.validation, outputs], logits);
  });
  writeFileSync(file, writeSafetensors(results, {}));
}

/** Whole units until the time is over. */
function run(unit, seconds) {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const passed = () => (performance.now() - start) / 1000;
  let count = 0;
  do unit();
  while ((count++, passed() < seconds));
  const wall = passed();
  const { user, system } = process.cpuUsage(cpu);
  return { units: count, wall, cpu: (user + system) / 1e6, rss: process.resourceUsage().maxRSS * 1024 };
}

const say = (message) => console.log(JSON.stringify(message));

if (told.work === 'verify') {
  writeResults(told.results);
  say({ ready: engine.name });
  process.exit(0);
}
const unit = await works[told.work]();
run(unit, told.warmup);
say({ ready: engine.name });
for await (const _ of lines) say(run(unit, told.seconds));
process.exit(0);
