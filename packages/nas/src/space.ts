/** Search spaces as data, and the architectures that stand out in one. */
import type { Block, Genotype, SearchSpace, StageSpace } from '@ntaa/contracts';

type BlockSpace = StageSpace['blocks'][number];

/** The space for small images on a CPU: 1.6 to 6.3 MMACs at 32 px, 14k to 82k parameters. */
export const tinySpace: SearchSpace = {
  name: 'tiny',
  resolutions: [24, 32, 48],
  stem: { width: 16, stride: 1, activation: 'relu' },
  stages: [16, 24, 40].map((width) => ({
    width,
    stride: 2,
    activation: 'relu' as const,
    minDepth: 1,
    blocks: [0, 1, 2].map(() => ({ kernels: [3, 5], expands: [2, 3, 4] })),
  })),
  head: { width: 128, activation: 'relu' },
};

/** Every choice at its greatest: the genotype whose weights are the whole supernet. */
export function largest(space: SearchSpace): Genotype {
  return pick(space, last(space.resolutions), (stage) => stage.blocks.length, last, last);
}

/** Every choice at its least: the cheapest genotype in MACs and in parameters. */
export function smallest(space: SearchSpace): Genotype {
  return pick(space, first(space.resolutions), (stage) => stage.minDepth, first, first);
}

/**
 * The fixed architecture a practitioner would take without a search: middle depth and expansion, 3x3 kernels, the
 * greatest resolution up to 32 px.
 */
export function handDesigned(space: SearchSpace): Genotype {
  const resolution = space.resolutions.findLast((px) => px <= 32) ?? first(space.resolutions);
  const depth = (stage: StageSpace) => Math.floor((stage.minDepth + stage.blocks.length) / 2);
  return pick(space, resolution, depth, (kernels) => (kernels.includes(3) ? 3 : first(kernels)), middle);
}

function pick(
  space: SearchSpace,
  resolution: number,
  depth: (stage: StageSpace) => number,
  kernel: (choices: readonly number[]) => number,
  expand: (choices: readonly number[]) => number,
): Genotype {
  const block = (b: BlockSpace): Block => ({ kernel: kernel(b.kernels), expand: expand(b.expands) });
  const stages = space.stages.map((stage) => stage.blocks.slice(0, depth(stage)).map(block));
  return { space: space.name, resolution, stages };
}

const first = (choices: readonly number[]) => choices[0]!;
const middle = (choices: readonly number[]) => choices[(choices.length - 1) >> 1]!;
const last = (choices: readonly number[]) => choices[choices.length - 1]!;

/** Of an architecture's input, px. */
export function inputSize(
  { aspect = 1 }: Pick<SearchSpace, 'aspect'>,
  { resolution }: Pick<Genotype, 'resolution'>,
): { width: number; height: number } {
  return { width: resolution, height: Math.round(resolution * aspect) };
}

/** The space with only those resolutions (px) of `allowed` that it has. Throws RangeError when none is left. */
export function restrictResolutions(space: SearchSpace, allowed: readonly number[]): SearchSpace {
  const resolutions = space.resolutions.filter((px) => allowed.includes(px));
  if (resolutions.length === 0)
    throw new RangeError(
      `none of the resolutions ${allowed.join(', ')} is in space ${space.name} (${space.resolutions.join(', ')})`,
    );
  return { ...space, resolutions };
}

/**
 * The space that holds exactly this architecture: how an extracted static network is described. It keeps its name,
 * so the genotype is a member of both.
 */
export function frozenSpace(space: SearchSpace, genotype: Genotype): SearchSpace {
  requireMember(space, genotype);
  const stages = space.stages.map((stage, i): StageSpace => {
    const blocks = genotype.stages[i]!.map(({ kernel, expand }) => ({
      kernels: [kernel],
      expands: [expand],
    }));
    return { ...stage, minDepth: blocks.length, blocks };
  });
  return { ...space, resolutions: [genotype.resolution], stages };
}

/** How many genotypes the space has; a rounded number past 2^53. */
export function countArchitectures(space: SearchSpace): number {
  const stageCount = ({ minDepth, blocks }: StageSpace) => {
    let total = 0;
    let prefixes = 1;
    blocks.forEach(({ kernels, expands }, i) => {
      prefixes *= kernels.length * expands.length;
      if (i + 1 >= minDepth) total += prefixes;
    });
    return total;
  };
  return space.stages.reduce((product, stage) => product * stageCount(stage), space.resolutions.length);
}

export function isMember(space: SearchSpace, genotype: Genotype): boolean {
  return (
    genotype.space === space.name &&
    space.resolutions.includes(genotype.resolution) &&
    genotype.stages.length === space.stages.length &&
    space.stages.every(({ minDepth, blocks }, i) => {
      const active = genotype.stages[i]!;
      return (
        active.length >= minDepth &&
        active.length <= blocks.length &&
        active.every(({ kernel, expand }, j) => {
          const choices = blocks[j]!;
          return choices.kernels.includes(kernel) && choices.expands.includes(expand);
        })
      );
    })
  );
}

/** Throws RangeError unless the genotype is a member of the space. */
export function requireMember(space: SearchSpace, genotype: Genotype): void {
  if (!isMember(space, genotype))
    throw new RangeError(`not an architecture of space ${space.name}: ${JSON.stringify(genotype)}`);
}
