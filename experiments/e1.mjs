// E1: at equal multiply-accumulates and equal image passes, is adapting architecture and weights together better than
// what else one could do with the same budget?
import { largest } from '../packages/nas/lib/index.js';
import { collectArms } from './arms.mjs';
import { sourceBest } from './source.mjs';

export async function experiment(lab, seeds) {
  const source = lab.without.includes('wpf-source-best') ? undefined : await sourceBest(lab);
  const { add, list } = collectArms();
  const arm = async (name, about, result) => {
    if (!lab.without.includes(name)) add(name, about, await result());
  };
  for (const seed of seeds) {
    const job = await lab.job(seed);
    const { genotype, found, passes, mixing, transferPasses, supernet: tensors } = job;
    const left = passes - transferPasses;
    const inherited = (other) =>
      lab.trained(other, { seed, weights: { of: `job ${seed}`, tensors }, passes: left, mixing });
    add('ntaa', 'NTAA, the whole job', job);
    const wpf = { seed, weights: 'source', passes, mixing };
    const scratch = { seed, weights: 'random', passes, mixing };
    await arm('wpf', 'WP&F, hand-designed architecture', () => lab.trained(lab.hand, wpf));
    await arm('wpf-source-best', 'WP&F, source-best architecture', () => lab.trained(source.genotype, wpf));
    await arm('found-source', "the search's best architecture, source weights", () =>
      lab.trained(found, wpf),
    );
    await arm('found-inherited', "the search's best architecture, inherited weights", () => inherited(found));
    await arm('scratch', "NTAA's architecture from scratch", () => lab.trained(genotype, scratch));
    await arm('hand-inherited', 'hand-designed architecture, inherited weights', () => inherited(lab.hand));
    await arm('random-inherited', 'random architectures, inherited weights', async () => {
      const drawn = [];
      for (const other of lab.draw(3, [0.8, 1], 'random', seed)) drawn.push(await inherited(other));
      return meanOfThem(drawn);
    });
  }
  // The dear ones last.
  for (const seed of seeds) {
    const { genotype, passes, mixing } = await lab.job(seed);
    const whole = { seed, weights: 'source', passes, mixing };
    await arm('largest', 'WP&F, largest network', () => lab.trained(largest(lab.space), whole));
    const longer = { seed, weights: 'random', passes: 3 * passes, mixing };
    await arm('scratch-3x', "NTAA's architecture from scratch, 3x the passes", () =>
      lab.trained(genotype, longer),
    );
  }
  const arms = list();
  const ran = (name) => arms.some((arm) => arm.name === name);
  return {
    title: 'E1: quality at equal multiply-accumulates and equal image passes',
    arms,
    reference: 'ntaa',
    primary: 'wpf',
    extra: [
      ['hand-inherited', 'wpf', 'the supernet, at the hand-designed architecture'],
      ['found-source', 'wpf', 'the architecture that was found, at source weights'],
      ['found-inherited', 'hand-inherited', 'the same, at inherited weights'],
      ['random-inherited', 'wpf', 'random architectures in the supernet'],
    ].filter(([name]) => ran(name)),
    source,
    jobs: arms.find(({ name }) => name === 'ntaa').results,
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
