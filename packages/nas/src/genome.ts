/** Genotypes as vectors of gene indices, for distributions, crossover and regression. */
import type { Block, Genotype, SearchSpace } from '@ntaa/contracts';
import { requireMember } from './space.js';

/** One decision: the resolution (px), or one block position's block, or its absence. */
export type Gene =
  | { kind: 'resolution'; choices: number[] }
  | { kind: 'block'; stage: number; position: number; choices: (Block | 'skip')[] };

/** Per gene, the index of its choice. */
export type Genome = number[];

/** The resolution gene, then every block position's; past the minimum depth choice 0 is 'skip'. */
export function genes(space: SearchSpace): Gene[] {
  const blocks = space.stages.flatMap(({ minDepth, blocks }, stage) =>
    blocks.map(({ kernels, expands }, position): Gene => {
      const choices = kernels.flatMap((kernel) => expands.map((expand): Block => ({ kernel, expand })));
      return {
        kind: 'block',
        stage,
        position,
        choices: position < minDepth ? choices : ['skip', ...choices],
      };
    }),
  );
  return [{ kind: 'resolution', choices: [...space.resolutions] }, ...blocks];
}

/** Throws RangeError when the genotype is not a member of the space. Asked for thousands of times in a search: no list is made. */
export function encode(space: SearchSpace, genotype: Genotype): Genome {
  requireMember(space, genotype);
  const genome = [space.resolutions.indexOf(genotype.resolution)];
  space.stages.forEach(({ minDepth, blocks }, stage) =>
    blocks.forEach(({ kernels, expands }, position) => {
      const block = genotype.stages[stage]![position];
      // In the order of `genes`.
      const choice = block
        ? kernels.indexOf(block.kernel) * expands.length + expands.indexOf(block.expand)
        : 0;
      genome.push(block && position >= minDepth ? choice + 1 : choice);
    }),
  );
  return genome;
}

/**
 * Any vector of valid indices is an architecture: a stage ends at its first skip, so that a block keeps the position
 * whose weights its gene was chosen for, and skips come to lie at the tail.
 */
export function decode(space: SearchSpace, genome: Genome): Genotype {
  const list = genes(space);
  if (genome.length !== list.length)
    throw new RangeError(`space ${space.name} has ${list.length} genes, the genome ${genome.length}`);
  const stages: Block[][] = space.stages.map(() => []);
  let resolution = 0;
  list.forEach((gene, i) => {
    const choice = gene.choices[genome[i]!];
    if (choice === undefined)
      throw new RangeError(`gene ${i} of space ${space.name} has no choice ${genome[i]}`);
    if (gene.kind === 'resolution') resolution = choice as number;
    else {
      const blocks = stages[gene.stage]!;
      if (choice !== 'skip' && blocks.length === gene.position) blocks.push({ ...(choice as Block) });
    }
  });
  return { space: space.name, resolution, stages };
}
