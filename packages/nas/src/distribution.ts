/** The sampling distribution q(alpha) that joint transfer moves towards good architectures. */
import type { Genotype, SearchSpace } from '@ntaa/contracts';
import type { Rng } from '@ntaa/random';
import { decode, encode, genes, type Gene } from './genome.js';

/** Weight kept on the uniform distribution, so that no choice ever dies out. */
const EXPLORATION = 0.1;

/**
 * A product of categoricals, one a gene. A block gene is conditional on its stage reaching that position: what comes
 * after a stage's first skip is neither drawn nor counted.
 */
export class Distribution {
  readonly space: SearchSpace;
  /** Per gene of `genes(space)`, its choices' probabilities. */
  readonly probabilities: readonly (readonly number[])[];

  private constructor(space: SearchSpace, probabilities: readonly (readonly number[])[]) {
    this.space = space;
    this.probabilities = probabilities;
  }

  /** Uniform in resolution, in every stage's depth, and in every active block's kernel and expansion. */
  static uniform(space: SearchSpace): Distribution {
    return new Distribution(
      space,
      genes(space).map((gene) => uniformGene(space, gene)),
    );
  }

  sample(rng: Rng): Genotype {
    return decode(
      this.space,
      this.probabilities.map((p) => rng.categorical(p)),
    );
  }

  /** (1 - weight) * this + weight * (0.9 * the marginals of `best` + 0.1 * uniform). */
  movedTowards(best: readonly Genotype[], weight = 0.5): Distribution {
    if (best.length === 0) return this;
    const list = genes(this.space);
    const genomes = best.map((genotype) => encode(this.space, genotype));
    const moved = list.map((gene, g) => {
      const before = this.probabilities[g]!;
      const reached = genomes.filter((genome) => reaches(list, genome, g));
      if (reached.length === 0) return before;
      const uniform = uniformGene(this.space, gene);
      return before.map((p, choice) => {
        const marginal = reached.filter((genome) => genome[g] === choice).length / reached.length;
        return (1 - weight) * p + weight * ((1 - EXPLORATION) * marginal + EXPLORATION * uniform[choice]!);
      });
    });
    return new Distribution(this.space, moved);
  }

  toJSON(): number[][] {
    return this.probabilities.map((p) => [...p]);
  }

  /** Throws RangeError when the value is not a distribution over this space's genes. */
  static fromJSON(space: SearchSpace, value: unknown): Distribution {
    const list = genes(space);
    const valid =
      Array.isArray(value) &&
      value.length === list.length &&
      value.every(
        (p: unknown, g) =>
          Array.isArray(p) &&
          p.length === list[g]!.choices.length &&
          p.every((x) => typeof x === 'number' && x >= 0) &&
          Math.abs((p as number[]).reduce((sum, x) => sum + x, 0) - 1) < 1e-6,
      );
    if (!valid) throw new RangeError(`not a distribution over the genes of space ${space.name}`);
    return new Distribution(space, value as number[][]);
  }
}

function uniformGene(space: SearchSpace, gene: Gene): number[] {
  const { choices } = gene;
  if (choices[0] !== 'skip' || gene.kind === 'resolution') return choices.map(() => 1 / choices.length);
  // Ending here must be as likely as ending after any later position.
  const skip = 1 / (space.stages[gene.stage]!.blocks.length - gene.position + 1);
  return choices.map((choice) => (choice === 'skip' ? skip : (1 - skip) / (choices.length - 1)));
}

/** Whether the genome's stage is still active just before gene `g`. */
function reaches(list: readonly Gene[], genome: readonly number[], g: number): boolean {
  const gene = list[g]!;
  if (gene.kind === 'resolution' || gene.position === 0) return true;
  return list[g - 1]!.choices[genome[g - 1]!] !== 'skip';
}
