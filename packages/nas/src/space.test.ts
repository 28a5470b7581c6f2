import type { SearchSpace } from '@ntaa/contracts';
import { Rng } from '@ntaa/random';
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import {
  canonical,
  cost,
  costRange,
  countArchitectures,
  decode,
  Distribution,
  encode,
  frozenSpace,
  genes,
  handDesigned,
  inputAspect,
  inputSize,
  isMember,
  largest,
  nearestAchievable,
  parseCanonical,
  restrictResolutions,
  smallest,
  taskSpace,
  tinySpace,
  units,
  violation,
} from './index.js';

/** Positions with unlike choices and a stride-1 stage of equal width: what tiny does not have. */
const oddSpace: SearchSpace = {
  name: 'odd-1@x',
  resolutions: [17, 30],
  stem: { width: 8, stride: 2, activation: 'hswish' },
  stages: [
    {
      width: 8,
      stride: 1,
      activation: 'relu',
      minDepth: 2,
      blocks: [
        { kernels: [3, 5, 7], expands: [1, 2] },
        { kernels: [5], expands: [2] },
        { kernels: [3, 7], expands: [2, 3] },
        { kernels: [3], expands: [1, 4] },
      ],
    },
    {
      width: 12,
      stride: 2,
      activation: 'hswish',
      minDepth: 1,
      blocks: [{ kernels: [3], expands: [2] }],
    },
  ],
  head: { width: 20, activation: 'hswish' },
};

const space = fc.constantFrom(tinySpace, oddSpace);
const genomeIn = (s: SearchSpace) => fc.tuple(...genes(s).map((g) => fc.nat(g.choices.length - 1)));
const spaceAndGenome = space.chain((s) => fc.tuple(fc.constant(s), genomeIn(s)));
const spaceAndGenotype = spaceAndGenome.map(([s, genome]) => [s, decode(s, genome)] as const);

describe('a search space', () => {
  it('counts its architectures, and every sampled one is counted', () => {
    // Per stage 6 + 6^2 + 6^3 = 258 in tiny; 6 * 1 * (1 + 4 + 4 * 2) = 78 in the odd one's first stage.
    expect(countArchitectures(tinySpace)).toBe(tinySpace.resolutions.length * 258 ** 3);
    expect(countArchitectures(oddSpace)).toBe(2 * 78);
    const rng = new Rng('count');
    const uniform = Distribution.uniform(oddSpace);
    const seen = new Set(Array.from({ length: 5000 }, () => canonical(uniform.sample(rng))));
    expect(seen.size).toBe(156);
  });

  it('holds its largest, smallest and hand-designed architectures', () => {
    for (const s of [tinySpace, oddSpace])
      for (const genotype of [largest(s), smallest(s), handDesigned(s)])
        expect(isMember(s, genotype)).toBe(true);
    expect(handDesigned(tinySpace)).toEqual(parseCanonical('tiny@32_k3e3.k3e3_k3e3.k3e3_k3e3.k3e3'));
    expect(handDesigned(restrictResolutions(tinySpace, [48])).resolution).toBe(48);
  });

  it('refuses what is not in it', () => {
    const genotype = smallest(tinySpace);
    const block = { kernel: 3, expand: 2 };
    for (const wrong of [
      { ...genotype, space: 'other' },
      { ...genotype, resolution: 33 },
      { ...genotype, stages: genotype.stages.slice(1) },
      { ...genotype, stages: [[], ...genotype.stages.slice(1)] },
      { ...genotype, stages: [[block, block, block, block], ...genotype.stages.slice(1)] },
      { ...genotype, stages: [[{ kernel: 7, expand: 2 }], ...genotype.stages.slice(1)] },
      { ...genotype, stages: [[{ kernel: 3, expand: 5 }], ...genotype.stages.slice(1)] },
    ]) {
      expect(isMember(tinySpace, wrong)).toBe(false);
      expect(() => encode(tinySpace, wrong)).toThrow(/not an architecture of space tiny/);
    }
    expect(() => restrictResolutions(tinySpace, [40])).toThrow(/none of the resolutions 40/);
  });

  it('freezes to exactly one architecture of the same cost', () => {
    fc.assert(
      fc.property(spaceAndGenotype, ([s, genotype]) => {
        const frozen = frozenSpace(s, genotype);
        expect(countArchitectures(frozen)).toBe(1);
        expect(largest(frozen)).toEqual(genotype);
        expect(cost(frozen, genotype, 7)).toEqual(cost(s, genotype, 7));
      }),
    );
  });
});

describe('a space without a head convolution', () => {
  const without = (width: number): SearchSpace => ({ ...tinySpace, head: { width } });

  it('ends with its last stage', () => {
    const [layers, whole] = [without(40), tinySpace].map((space) => units(space, largest(tinySpace)));
    expect(layers).toEqual(whole!.slice(0, -1));
  });

  it('is refused when its head has another width than the last stage', () => {
    expect(() => units(without(128), largest(tinySpace))).toThrow(/128 wide, the last stage 40/);
  });
});

describe('a genotype', () => {
  it('survives encoding, decoding and its canonical string', () => {
    fc.assert(
      fc.property(spaceAndGenotype, ([s, genotype]) => {
        expect(decode(s, encode(s, genotype))).toEqual(genotype);
        expect(parseCanonical(canonical(genotype))).toEqual(genotype);
      }),
    );
  });

  it('comes of any genome, with the skips repaired to the tail and the other genes untouched', () => {
    fc.assert(
      fc.property(spaceAndGenome, ([s, genome]) => {
        const genotype = decode(s, genome);
        expect(isMember(s, genotype)).toBe(true);
        const repaired = encode(s, genotype);
        const skipAt = genes(s).map((gene) => (gene.choices[0] === 'skip' ? 0 : -1));
        repaired.forEach((gene, i) => expect(gene === genome[i] || gene === skipAt[i]).toBe(true));
        // A second repair finds nothing to do.
        expect(encode(s, decode(s, repaired))).toEqual(repaired);
      }),
    );
  });

  it('is refused when its text or genome is malformed', () => {
    for (const text of ['', 'tiny', 'tiny@32', 'tiny@32_', 'tiny@032_k3e2', 'tiny@32_k3e2.', 'tiny@32_k3e2 '])
      expect(() => parseCanonical(text)).toThrow(SyntaxError);
    expect(() => decode(tinySpace, [0])).toThrow(/10 genes/);
    expect(() => decode(tinySpace, [0, 0, 0, 0, 0, 0, 0, 0, 0, 9])).toThrow(/gene 9/);
  });
});

describe('cost', () => {
  it('equals a count by hand', () => {
    const genotype = parseCanonical('odd-1@x@17_k7e2.k5e2_k3e2');
    // 17 px, stem stride 2 -> 9 px, second stage stride 2 -> 5 px.
    const stem = 9 * 3 * 8 * 81;
    const first = (8 * 16 + 49 * 16 + 16 * 8) * 81;
    const second = (8 * 16 + 25 * 16 + 16 * 8) * 81;
    const third = 8 * 16 * 81 + (9 * 16 + 16 * 12) * 25;
    const head = 12 * 20 * 25 + 20 * 3;
    const convs = 216 + 1040 + 656 + 464 + 240;
    const batchNorms = 2 * (8 + 40 + 40 + 44 + 20);
    const params = convs + batchNorms + 20 * 3 + 3;
    expect(cost(oddSpace, genotype, 3)).toEqual({
      macs: stem + first + second + third + head,
      params,
      size_bytes: 4 * params,
    });
  });

  it('counts every pixel of an input taller than wide, and no other parameter', () => {
    const space: SearchSpace = { ...oddSpace, aspect: 2 };
    const genotype = parseCanonical('odd-1@x@17_k7e2.k5e2_k3e2');
    expect(inputSize(space, genotype)).toEqual({ width: 17, height: 34 });
    // 34 x 17 px -> 17 x 9 -> 9 x 5.
    const stem = 9 * 3 * 8 * 153;
    const first = (8 * 16 + 49 * 16 + 16 * 8 + 8 * 16 + 25 * 16 + 16 * 8) * 153;
    const third = 8 * 16 * 153 + (9 * 16 + 16 * 12) * 45;
    const tall = cost(space, genotype, 3);
    expect(tall.macs).toBe(stem + first + third + 12 * 20 * 45 + 20 * 3);
    expect(tall.params).toBe(cost(oddSpace, genotype, 3).params);
    expect(frozenSpace(space, genotype).aspect).toBe(2);
    expect(cost(frozenSpace(space, genotype), genotype, 3)).toEqual(tall);
  });

  it('lies within the range of its space, and violations start where limits end', () => {
    fc.assert(
      fc.property(spaceAndGenotype, fc.integer({ min: 1, max: 1000 }), ([s, genotype], outputs) => {
        const { min, max } = costRange(s, outputs);
        const own = cost(s, genotype, outputs);
        for (const key of ['macs', 'params', 'size_bytes'] as const) {
          expect(own[key]).toBeGreaterThanOrEqual(min[key]);
          expect(own[key]).toBeLessThanOrEqual(max[key]);
        }
        expect(violation(own, { max_macs: own.macs, max_params: null })).toBe(0);
        expect(violation(own, { max_macs: own.macs / 3, max_params: own.params / 2 })).toBeCloseTo(3);
        expect(violation(own, { max_latency_ms: 1 })).toBe(0);
        expect(violation({ ...own, latency_ms: 2 }, { max_latency_ms: 1 })).toBe(1);
      }),
    );
  });

  it('names the nearest achievable value of each limit that cannot be met', () => {
    const { min } = costRange(tinySpace, 10);
    expect(nearestAchievable(tinySpace, 10, { max_macs: min.macs, max_params: null })).toEqual({});
    expect(nearestAchievable(tinySpace, 10, { max_macs: 1, max_params: 1e6, max_size_bytes: 8 })).toEqual({
      max_macs: min.macs,
      max_size_bytes: min.size_bytes,
    });
  });
});

test('only re-identification looks at images taller than wide as such; other spaces stay as they were', () => {
  expect(inputAspect('re-identification', 2.1)).toBe(2);
  expect([1, 1.3, 0.5].map((median) => inputAspect('re-identification', median))).toEqual([1, 1, 1]);
  expect(inputAspect('age-estimation', 2.1)).toBe(1);
  expect(taskSpace('re-identification', tinySpace, 2)).toMatchObject({ aspect: 2 });
  expect(JSON.stringify(taskSpace('re-identification', tinySpace, 1))).toBe(
    JSON.stringify(taskSpace('re-identification', tinySpace)),
  );
  expect(taskSpace('re-identification', tinySpace)).not.toHaveProperty('aspect');
});

describe('the sampling distribution', () => {
  it('starts uniform in resolution, depth, kernel and expansion', () => {
    const rng = new Rng('uniform');
    const uniform = Distribution.uniform(tinySpace);
    const draws = Array.from({ length: 6000 }, () => uniform.sample(rng));
    const share = (hit: (g: (typeof draws)[number]) => boolean) => draws.filter(hit).length / draws.length;
    for (const px of tinySpace.resolutions)
      expect(share((g) => g.resolution === px)).toBeCloseTo(1 / tinySpace.resolutions.length, 1);
    for (const depth of [1, 2, 3]) expect(share((g) => g.stages[1]!.length === depth)).toBeCloseTo(1 / 3, 1);
    expect(share((g) => g.stages[0]![0]!.kernel === 5)).toBeCloseTo(1 / 2, 1);
  });

  it('moves towards the best, keeps every choice alive and sums to one', () => {
    const best = parseCanonical('tiny@24_k5e4.k3e2_k3e2_k5e3.k5e3.k5e3');
    let q = Distribution.uniform(tinySpace);
    for (let round = 0; round < 8; round++) q = q.movedTowards([best]);
    const genome = encode(tinySpace, best);
    q.probabilities.forEach((p, gene) => {
      expect(p.reduce((sum, x) => sum + x, 0)).toBeCloseTo(1, 9);
      expect(Math.min(...p)).toBeGreaterThan(0.008);
      // Genes after a stage's end say nothing about the best and stay as they were.
      const unreached = gene === 6;
      if (!unreached) expect(p[genome[gene]!]).toBeGreaterThan(0.85);
    });
    expect(q.probabilities[6]).toEqual(Distribution.uniform(tinySpace).probabilities[6]);
    expect(q.movedTowards([])).toBe(q);
  });

  it('survives JSON and refuses what is not one', () => {
    const q = Distribution.uniform(oddSpace).movedTowards([largest(oddSpace)]);
    const copy = Distribution.fromJSON(oddSpace, JSON.parse(JSON.stringify(q)));
    expect(copy.probabilities).toEqual(q.probabilities);
    expect(copy.sample(new Rng(1))).toEqual(q.sample(new Rng(1)));
    for (const wrong of [null, [], [[1]], q.toJSON().map((p) => p.map((x) => x * 2))])
      expect(() => Distribution.fromJSON(oddSpace, wrong)).toThrow(RangeError);
  });
});
