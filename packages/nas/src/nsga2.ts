/** Constrained two-objective evolutionary search: NSGA-II with constraint domination (Deb et al., 2002). */
import type { Constraints, Genotype, SearchSpace } from '@ntaa/contracts';
import type { Rng } from '@ntaa/random';
import { canonical } from './canonical.js';
import { cost, violation } from './cost.js';
import { Distribution } from './distribution.js';
import { decode, encode, genes, type Genome } from './genome.js';
import { smallest } from './space.js';

export interface Nsga2Options {
  space: SearchSpace;
  /** Outputs of the classifier, for costs. */
  outputs: number;
  constraints: Constraints;
  /** Both minimised; called once for every distinct genotype. */
  objective: (genotype: Genotype) => readonly [number, number];
  /** Latency (ms) of a genotype, where `constraints` bound it. */
  latency?: (genotype: Genotype) => number;
  population: number;
  generations: number;
  rng: Rng;
  /** Members of the first population, beside the smallest genotype; random ones fill it up. */
  initial?: readonly Genotype[];
}

interface Individual {
  genotype: Genotype;
  genome: Genome;
  objectives: readonly [number, number];
  violation: number;
  /** Set by `survivors`: front number, 0 the best, and crowding distance in it. */
  rank: number;
  crowding: number;
}

const CROSSOVER_RATE = 0.9;
/** New genotypes are looked for this many times a wanted one: a small space runs out of them. */
const ATTEMPTS = 10;

/**
 * The non-dominated genotypes of the last population, distinct. The smallest genotype, which has the least of every
 * static cost, is in the first population, so all of them are feasible unless none can be. Bounded by
 * population * (generations + 1) evaluations.
 */
export function nsga2(options: Nsga2Options): Genotype[] {
  const { space, population, generations, rng, initial = [] } = options;
  const seen = new Set<string>();
  const evaluate = evaluator(options);
  const fresh = (source: (attempt: number) => Genotype): Individual[] => {
    const found: Individual[] = [];
    for (let attempt = 0; attempt < ATTEMPTS * population && found.length < population; attempt++) {
      const genotype = source(attempt);
      const key = canonical(genotype);
      if (seen.has(key)) continue;
      seen.add(key);
      found.push(evaluate(genotype));
    }
    return found;
  };
  const uniform = Distribution.uniform(space);
  const founders = [smallest(space), ...initial];
  let alive = survivors(
    fresh((attempt) => founders[attempt] ?? uniform.sample(rng)),
    population,
  );
  const choices = genes(space).map((gene) => gene.choices.length);
  for (let generation = 0; generation < generations; generation++) {
    const parents = alive;
    const children = fresh(() => {
      const child = crossover(tournament(parents, rng).genome, tournament(parents, rng).genome, rng);
      return decode(space, mutated(child, choices, rng));
    });
    alive = survivors([...parents, ...children], population);
  }
  return alive.filter(({ rank }) => rank === 0).map(({ genotype }) => genotype);
}

function evaluator({ space, outputs, constraints, objective, latency }: Nsga2Options) {
  return (genotype: Genotype): Individual => ({
    genotype,
    genome: encode(space, genotype),
    objectives: objective(genotype),
    violation: violation(
      { ...cost(space, genotype, outputs), ...(latency && { latency_ms: latency(genotype) }) },
      constraints,
    ),
    rank: 0,
    crowding: 0,
  });
}

/** Binary tournament: the lower rank wins, then the less crowded. */
function tournament(alive: readonly Individual[], rng: Rng): Individual {
  const a = alive[rng.int(alive.length)]!;
  const b = alive[rng.int(alive.length)]!;
  return a.rank < b.rank || (a.rank === b.rank && a.crowding >= b.crowding) ? a : b;
}

/** Two-point: the genes between two cuts come from the second parent. */
function crossover(a: Genome, b: Genome, rng: Rng): Genome {
  if (rng.uniform() >= CROSSOVER_RATE) return a;
  const cuts = [rng.int(a.length + 1), rng.int(a.length + 1)];
  const [from, to] = [Math.min(...cuts), Math.max(...cuts)];
  return a.map((gene, i) => (i >= from && i < to ? b[i]! : gene));
}

function mutated(genome: Genome, choices: readonly number[], rng: Rng): Genome {
  const rate = Math.max(0.1, 1 / genome.length);
  return genome.map((gene, i) => (rng.uniform() < rate ? rng.int(choices[i]!) : gene));
}

/** The best `count`, front by front, the last front thinned by crowding; sets their rank and crowding. */
function survivors(pool: readonly Individual[], count: number): Individual[] {
  const chosen: Individual[] = [];
  let left = [...pool];
  for (let rank = 0; left.length > 0 && chosen.length < count; rank++) {
    const front = left.filter((p) => !left.some((q) => constraintDominates(q, p)));
    const crowding = crowdingDistance(front.map(({ objectives }) => objectives));
    front.forEach((individual, i) => Object.assign(individual, { rank, crowding: crowding[i] }));
    front.sort((p, q) => q.crowding - p.crowding);
    chosen.push(...front.slice(0, count - chosen.length));
    left = left.filter((p) => !front.includes(p));
  }
  return chosen;
}

/** Feasible before infeasible, less infeasible before more, and among feasible ones Pareto dominance. */
function constraintDominates(p: Individual, q: Individual): boolean {
  if (p.violation > 0 || q.violation > 0) return p.violation < q.violation;
  return dominates(p.objectives, q.objectives);
}

function dominates(p: readonly number[], q: readonly number[]): boolean {
  return p.every((value, i) => value <= q[i]!) && p.some((value, i) => value < q[i]!);
}

/** Indices of the points that no other point dominates, all coordinates minimised; equal points are all kept. */
export function paretoFront(points: readonly (readonly number[])[]): number[] {
  return [...points.keys()].filter((i) => !points.some((other) => dominates(other, points[i]!)));
}

/** Per point of one front, the perimeter of the box its neighbours span, each axis scaled to 1; infinite at the ends. */
export function crowdingDistance(points: readonly (readonly number[])[]): number[] {
  const distance = points.map(() => 0);
  for (let axis = 0; axis < (points[0]?.length ?? 0); axis++) {
    const order = [...points.keys()].sort((i, j) => points[i]![axis]! - points[j]![axis]!);
    const value = (position: number) => points[order[position]!]![axis]!;
    const range = value(order.length - 1) - value(0);
    order.forEach((i, position) => {
      if (position === 0 || position === order.length - 1) distance[i] = Infinity;
      else if (range > 0) distance[i]! += (value(position + 1) - value(position - 1)) / range;
    });
  }
  return distance;
}
