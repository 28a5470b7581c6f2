// E3: do architecture and weights belong together? The best architecture of a job's search, finetuned alike from its own job's
// weights, from those of another job on the same images (another seed, so another path of the sampling distribution),
// from the source's and from random ones.
import { collectArms } from './arms.mjs';

/** Jobs of other seeds, on the same split, so that their weights have seen no test image. */
const OTHER = 1000;

export async function experiment(lab, seeds) {
  const { add, list } = collectArms();
  for (const seed of seeds) {
    const { found: genotype, passes, mixing, transferPasses, supernet } = await lab.job(seed);
    const given = { seed, passes: passes - transferPasses, mixing };
    const own = { of: `job ${seed}`, tensors: supernet };
    add('matched', 'weights of its own job', await lab.trained(genotype, { ...given, weights: own }));
    const other = await lab.job(seed + OTHER, { split: seed, transferOnly: true });
    const weights = { of: `transfer ${seed + OTHER}`, tensors: other.supernet };
    add('mismatched', "another seed's adapted weights", await lab.trained(genotype, { ...given, weights }));
    add('source', 'source weights', await lab.trained(genotype, { ...given, weights: 'source' }));
    add('random', 're-initialised', await lab.trained(genotype, { ...given, weights: 'random' }));
  }
  return {
    title: 'E3: the joint distribution of architecture and weights',
    arms: list(),
    reference: 'matched',
    primary: 'mismatched',
    extra: [['mismatched', 'random', 'any adapted weights against none']],
  };
}
