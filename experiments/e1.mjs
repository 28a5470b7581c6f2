// E1: at equal multiply-accumulates and equal image passes, is adapting architecture and weights together better than
// what else one could do with the same budget?
import { largest } from '../packages/nas/lib/index.js';
import { sourceBest } from './source.mjs';

export async function experiment(lab, seeds) {
  const source = await sourceBest(lab);
  const arms = new Map();
  const add = (name, about, result) => {
    if (!arms.has(name)) arms.set(name, { name, about, results: [] });
    arms.get(name).results.push(result);
  };
  for (const seed of seeds) {
    const job = await lab.job(seed);
    const { genotype, passes, mixing, transferPasses, supernet: tensors } = job;
    const left = passes - transferPasses;
    const inherited = (other) =>
      lab.trained(other, { seed, weights: { of: `job ${seed}`, tensors }, passes: left, mixing });
    add('ntaa', 'NTAA, the whole job', job);
    const wpf = { seed, weights: 'source', passes, mixing };
    add('wpf', 'WP&F, hand-designed architecture', await lab.trained(lab.hand, wpf));
    add('wpf-source-best', 'WP&F, source-best architecture', await lab.trained(source.genotype, wpf));
    add('ntaa-source-weights', "NTAA's architecture, source weights", await lab.trained(genotype, wpf));
    const scratch = { seed, weights: 'random', passes, mixing };
    add('scratch', "NTAA's architecture from scratch", await lab.trained(genotype, scratch));
    add('hand-inherited', 'hand-designed architecture, inherited weights', await inherited(lab.hand));
    const drawn = [];
    for (const other of lab.draw(3, [0.8, 1], 'random', seed)) drawn.push(await inherited(other));
    add('random-inherited', 'random architectures, inherited weights', meanOfThem(drawn));
  }
  // The dear ones last.
  for (const seed of seeds) {
    const { genotype, passes, mixing } = await lab.job(seed);
    const whole = { seed, weights: 'source', passes, mixing };
    if (!lab.without.includes('largest'))
      add('largest', 'WP&F, largest network', await lab.trained(largest(lab.space), whole));
    const longer = { seed, weights: 'random', passes: 3 * passes, mixing };
    if (!lab.without.includes('scratch-3x'))
      add(
        'scratch-3x',
        "NTAA's architecture from scratch, 3x the passes",
        await lab.trained(genotype, longer),
      );
  }
  return {
    title: 'E1: quality at equal multiply-accumulates and equal image passes',
    arms: [...arms.values()],
    reference: 'ntaa',
    primary: 'wpf',
    extra: [
      ['hand-inherited', 'wpf', 'the supernet, at the hand-designed architecture'],
      ['ntaa-source-weights', 'wpf', 'the architecture, at source weights'],
      ['random-inherited', 'wpf', 'random architectures in the supernet'],
    ],
    source,
    jobs: arms.get('ntaa').results,
  };
}

/** Of several networks of a seed: the mean of what each is worth. */
function meanOfThem(results) {
  const mean = (of) => results.reduce((sum, result) => sum + of(result), 0) / results.length;
  const right = Array.from(results[0].right, (_, i) => mean(({ right }) => Number(right[i])));
  return {
    ...{ top1: mean((r) => r.top1), loss: mean((r) => r.loss), right, macs: mean((r) => r.macs) },
    ...{ passes: results[0].passes, seconds: mean((r) => r.seconds) },
  };
}
