/** A genotype as a short string: the key of caches and of de-duplication; fit for file names and queue ids. */
import type { Block, Genotype } from '@ntaa/contracts';

/** Such as `tiny@32_k3e4.k5e2_k3e2_k5e3`: space, resolution, then the active blocks of each stage. */
export function canonical(genotype: Genotype): string {
  const stages = genotype.stages.map((blocks) => blocks.map((b) => `k${b.kernel}e${b.expand}`).join('.'));
  return `${genotype.space}@${genotype.resolution}_${stages.join('_')}`;
}

const BLOCK = 'k[1-9]\\d*e[1-9]\\d*';
const CANONICAL = new RegExp(`^(.+)@([1-9]\\d*)_(${BLOCK}(?:[._]${BLOCK})*)$`, 's');

/** Inverse of `canonical`; throws SyntaxError on any other text. Membership of a space is not checked. */
export function parseCanonical(text: string): Genotype {
  const match = CANONICAL.exec(text);
  if (!match) throw new SyntaxError(`not a genotype: ${JSON.stringify(text.slice(0, 200))}`);
  const block = (part: string): Block => {
    const [kernel, expand] = part.slice(1).split('e').map(Number) as [number, number];
    return { kernel, expand };
  };
  const stages = match[3]!.split('_').map((stage) => stage.split('.').map(block));
  return { space: match[1]!, resolution: Number(match[2]), stages };
}
