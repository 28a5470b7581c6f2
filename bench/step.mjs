// Milliseconds of a training step (gradients and update) and of what judges a candidate (one batch whose statistics are
// collected, one with fixed ones) for tiny's architectures: medians.
// node bench/step.mjs [--rounds N] [--only PART OF A NAME] [--taped]     --taped: TensorFlow.js's ops, turn by turn
import { parseArgs } from 'node:util';
import { Gradients, initEngine, memory, Sgd, tf } from '@ntaa/engine';
import { handDesigned, largest, smallest, tinySpace } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { BnCollector, lossGradients, Supernet } from '@ntaa/supernet';
import { lossGradientsTaped } from '../packages/supernet/lib/loss-gradients.js';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '9' },
    only: { type: 'string', default: '' },
    taped: { type: 'boolean', default: false },
  },
});
const OUTPUTS = 10;
const engine = await initEngine('wasm');
const rng = new Rng('bench step');
const net = Supernet.initialise(tinySpace, OUTPUTS, rng);
const params = net.params();
const sums = new Gradients(params);
const sgd = new Sgd({ momentum: 0.9, nesterov: true, clipNorm: 5 });

function step(method, genotype, images, targets) {
  sums.clear();
  method(net, genotype, images, targets, sums).logits.dispose();
  sgd.step(params, sums, 0.01);
}

function evaluate(forward, genotype, images) {
  tf.tidy(() => {
    const collector = new BnCollector();
    forward(images, genotype, collector);
    const bn = collector.finish();
    forward(images, genotype, bn).logits.dataSync();
    bn.dispose();
  });
}

const ways = {
  program: [lossGradients, (...args) => net.forward(...args)],
  ...(options.taped && { taped: [lossGradientsTaped, (...args) => net.forwardTaped(...args)] }),
};
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const results = {};
for (const [name, shape] of Object.entries({ hand: handDesigned, smallest, largest }))
  for (const resolution of [24, 32, 48])
    for (const batch of [16, 32, 64]) {
      const key = `${name}@${resolution} x${batch}`;
      if (!key.includes(options.only)) continue;
      const genotype = { ...shape(tinySpace), resolution };
      const images = tf.randomNormal([batch, resolution, resolution, 3]);
      const targets = tf.softmax(tf.randomNormal([batch, OUTPUTS]));
      const tensors = memory().tensors;
      const times = {};
      for (let round = 0; round < Number(options.rounds) + 2; round++)
        for (const [way, [method, forward]] of Object.entries(ways)) {
          const run = {
            step: () => step(method, genotype, images, targets),
            evaluate: () => evaluate(forward, genotype, images),
          };
          for (const [what, f] of Object.entries(run)) {
            const before = performance.now();
            f();
            if (round > 1) (times[`${way}_${what}`] ??= []).push(performance.now() - before);
          }
        }
      results[key] = Object.fromEntries(
        Object.entries(times).map(([what, list]) => [what, Math.round(median(list) * 100) / 100]),
      );
      if (memory().tensors - tensors > params.length) throw new Error('tensors leak');
      console.log(key.padEnd(18), JSON.stringify(results[key]));
      tf.dispose([images, targets]);
    }
const rss = Math.round(process.resourceUsage().maxRSS / 1024);
console.log(JSON.stringify({ bench: 'step', engine: engine.name, rss_mb: rss, results }));
