import type { Genotype, SearchSpace } from '@ntaa/contracts';
import { Rng } from '@ntaa/random';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  canonical,
  cost,
  crowdingDistance,
  decode,
  Distribution,
  encode,
  fitPredictor,
  genes,
  nsga2,
  paretoFront,
  smallest,
  tinySpace,
  violation,
} from './index.js';

const smallSpace: SearchSpace = {
  ...tinySpace,
  name: 'small',
  resolutions: [24, 32],
  stages: tinySpace.stages.slice(0, 2).map((stage) => ({
    ...stage,
    blocks: [1, 2].map(() => ({ kernels: [3, 5], expands: [2, 4] })),
  })),
};

function enumerate(space: SearchSpace): Genotype[] {
  const genomes = genes(space).reduce<number[][]>(
    (prefixes, gene) => prefixes.flatMap((prefix) => gene.choices.map((_, i) => [...prefix, i])),
    [[]],
  );
  return [...new Map(genomes.map((g) => decode(space, g)).map((g) => [canonical(g), g])).values()];
}

/** A hidden quality: an additive effect of each gene, drawn by the seed, that cost does not explain. */
function hiddenScore(space: SearchSpace, seed: number): (genotype: Genotype) => number {
  const rng = new Rng('score', seed);
  const effects = genes(space).map((gene) => gene.choices.map(() => rng.normal()));
  return (genotype) => encode(space, genotype).reduce((sum, choice, g) => sum + effects[g]![choice]!, 0);
}

const objectiveOf = (space: SearchSpace, score: (g: Genotype) => number) => (g: Genotype) =>
  [-score(g), cost(space, g, 10).macs] as const;

describe('NSGA-II', () => {
  it('finds the true front of a space that can be enumerated', () => {
    const all = enumerate(smallSpace);
    expect(all.length).toBe(800);
    for (const seed of [1, 2, 3]) {
      const objective = objectiveOf(smallSpace, hiddenScore(smallSpace, seed));
      const front = paretoFront(all.map(objective)).map((i) => canonical(all[i]!));
      let evaluations = 0;
      const found = nsga2({
        space: smallSpace,
        outputs: 10,
        constraints: {},
        objective: (g) => (evaluations++, objective(g)),
        population: 50,
        generations: 10,
        rng: new Rng('nsga2', seed),
      });
      expect(evaluations).toBeLessThanOrEqual(50 * 11);
      const keys = found.map(canonical);
      const hits = keys.filter((key) => front.includes(key)).length;
      // 550 evaluations of 800: nearly all of it, and nearly nothing else.
      expect(hits / front.length).toBeGreaterThanOrEqual(0.9);
      expect(hits / keys.length).toBeGreaterThanOrEqual(0.9);
      expect(new Set(keys).size).toBe(keys.length);
    }
  });

  it('is far ahead of as many random draws in a space too large to enumerate', () => {
    const score = hiddenScore(tinySpace, 4);
    const objective = objectiveOf(tinySpace, score);
    const best = (genotypes: Genotype[]) => Math.max(...genotypes.map(score));
    const found = nsga2({
      space: tinySpace,
      outputs: 10,
      constraints: { max_macs: 4e6 },
      objective,
      population: 40,
      generations: 20,
      rng: new Rng(5),
    });
    const rng = new Rng(6);
    const q = Distribution.uniform(tinySpace);
    const random = Array.from({ length: 40 * 21 }, () => q.sample(rng)).filter(
      (g) => cost(tinySpace, g, 10).macs <= 4e6,
    );
    expect(best(found)).toBeGreaterThan(best(random) + 1);
  });

  it('returns feasible architectures only, whenever one exists', () => {
    const least = cost(smallSpace, smallest(smallSpace), 10);
    fc.assert(
      fc.property(
        fc.double({ min: 1, max: 3, noNaN: true }),
        fc.double({ min: 1, max: 3, noNaN: true }),
        fc.nat(),
        (macs, params, seed) => {
          const constraints = { max_macs: least.macs * macs, max_params: least.params * params };
          const found = nsga2({
            space: smallSpace,
            outputs: 10,
            constraints,
            objective: objectiveOf(smallSpace, hiddenScore(smallSpace, seed)),
            population: 12,
            generations: 3,
            rng: new Rng(seed),
          });
          expect(found.length).toBeGreaterThan(0);
          for (const g of found) expect(violation(cost(smallSpace, g, 10), constraints)).toBe(0);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('respects a latency limit, starts from given genotypes, ends in a space it exhausts, repeats itself', () => {
    const [a, b] = [largestOf(smallSpace), smallest(smallSpace)];
    const run = (seed: number) =>
      nsga2({
        space: { ...smallSpace, resolutions: [24], stages: smallSpace.stages.slice(0, 1) },
        outputs: 2,
        constraints: { max_latency_ms: 5 },
        objective: (g) => [g.stages[0]!.length, -g.stages[0]![0]!.expand],
        latency: (g) => 2 * g.stages[0]![0]!.expand,
        population: 30,
        generations: 5,
        rng: new Rng(seed),
        initial: [a, b].map((g) => ({ ...g, resolution: 24, stages: g.stages.slice(0, 1) })),
      });
    expect(run(1)).toEqual(run(1));
    expect(run(1).map((g) => g.stages[0]!.map((block) => block.expand))).toEqual([[2], [2]]);
  });
});

function largestOf(space: SearchSpace): Genotype {
  return decode(
    space,
    genes(space).map((gene) => gene.choices.length - 1),
  );
}

describe('Pareto helpers', () => {
  it('keeps exactly the points that none dominates', () => {
    const points = [
      [1, 5],
      [2, 2],
      [2, 2],
      [3, 3],
      [5, 1],
      [5, 2],
    ];
    expect(paretoFront(points)).toEqual([0, 1, 2, 4]);
    expect(paretoFront([])).toEqual([]);
  });

  it('measures crowding: infinite at the ends, the neighbours box inside', () => {
    expect(
      crowdingDistance([
        [0, 4],
        [4, 0],
        [1, 2],
      ]),
    ).toEqual([Infinity, Infinity, 2]);
    expect(crowdingDistance([])).toEqual([]);
  });
});

describe('the predictor', () => {
  const q = Distribution.uniform(tinySpace);
  const records = (count: number, score: (g: Genotype, i: number) => number, seed = 1) => {
    const rng = new Rng('records', seed);
    return Array.from({ length: count }, (_, i) => {
      const genotype = q.sample(rng);
      return { genotype, score: score(genotype, i), weight: 1 };
    });
  };

  it('ranks architectures it has not seen, and its tau tells so', () => {
    const score = hiddenScore(tinySpace, 2);
    const { predict, tau } = fitPredictor(records(120, score), tinySpace, 10, new Rng(1));
    const unseen = records(200, score, 2);
    let concordant = 0;
    for (let i = 1; i < unseen.length; i++) {
      const [a, b] = [unseen[i - 1]!, unseen[i]!];
      if (predict(a.genotype) > predict(b.genotype) === a.score > b.score) concordant++;
    }
    expect(tau).toBeGreaterThan(0.6);
    expect(concordant / 199).toBeGreaterThan(0.8);
  });

  it('admits that it cannot rank noise, and that few records are no evidence', () => {
    const rng = new Rng('noise');
    const noise = () => rng.normal();
    expect(fitPredictor(records(100, noise), tinySpace, 10, new Rng(1)).tau).toBeLessThan(0.3);
    const few = fitPredictor(records(4, noise), tinySpace, 10, new Rng(1));
    expect(few.tau).toBe(0);
    expect(Number.isFinite(few.predict(smallest(tinySpace)))).toBe(true);
    expect(() => fitPredictor([], tinySpace, 10, new Rng(1))).toThrow(/no records/);
  });

  it('believes heavier records more', () => {
    const score = hiddenScore(tinySpace, 3);
    const fresh = records(80, score);
    const stale = records(80, (g) => -score(g)).map((r) => ({ ...r, weight: 0.01 }));
    const { predict } = fitPredictor([...fresh, ...stale], tinySpace, 10, new Rng(1));
    const sorted = [...fresh].sort((a, b) => a.score - b.score);
    expect(predict(sorted.at(-1)!.genotype)).toBeGreaterThan(predict(sorted[0]!.genotype));
  });
});
