import type { Constraints, Genotype, SearchSpace } from '@ntaa/contracts';
import { cost, violation } from './cost.js';
import { handDesigned, smallest } from './space.js';

/**
 * What somebody who does not search would take: the middle architecture, or, where the constraints forbid it, the
 * largest architecture with the same block everywhere that they allow.
 */
export function fixedArchitecture(space: SearchSpace, outputs: number, constraints: Constraints): Genotype {
  const allowed = (genotype: Genotype): boolean =>
    violation(cost(space, genotype, outputs), constraints) === 0;
  const hand = handDesigned(space);
  if (allowed(hand)) return hand;
  const uniform = space.resolutions.flatMap((resolution) =>
    Array.from({ length: Math.max(...space.stages.map((s) => s.blocks.length)) }, (_, depth) =>
      space.stages[0]!.blocks[0]!.expands.map((expand) => ({
        space: space.name,
        resolution,
        stages: space.stages.map((stage) =>
          stage.blocks
            .slice(0, Math.max(stage.minDepth, Math.min(depth + 1, stage.blocks.length)))
            .map((block) => ({ kernel: block.kernels[0]!, expand })),
        ),
      })),
    ).flat(),
  );
  const macs = (genotype: Genotype): number => cost(space, genotype, outputs).macs;
  return uniform.filter(allowed).reduce((a, b) => (macs(b) > macs(a) ? b : a), smallest(space));
}
