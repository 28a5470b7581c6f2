/** One architecture out of the supernet, as a network of its own. */
import type { Genotype } from '@ntaa/contracts';
import { tf } from '@ntaa/engine';
import { frozenSpace, units } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { Supernet } from './supernet.js';
import { neckTensors } from './layout.js';
import { plain, type NamedTensors } from './tensors.js';

/**
 * A copy of the weights that the genotype uses, in a space that holds it alone: the same outputs as the supernet's at
 * that genotype, none of the others' weights.
 */
export function extract(net: Supernet, genotype: Genotype): Supernet {
  const tensors: NamedTensors = new Map();
  const copy = (name: string, tensor: () => tf.Tensor) =>
    tf.tidy(() => {
      tensors.set(name, plain(tensor()));
    });
  for (const layer of units(net.space, genotype).flatMap((unit) => unit.layers)) {
    copy(`${layer.name}.weight`, () => net.activeWeight(layer));
    for (const name of [`${layer.name}.bn.gamma`, `${layer.name}.bn.beta`])
      copy(name, () => net.active(name, [layer.channelsOut]));
  }
  for (const { name, shape } of neckTensors(net.space)) copy(name, () => net.active(name, shape));
  const { width } = net.space.head;
  copy('classifier.weight', () => net.active('classifier.weight', [width, net.outputs]));
  copy('classifier.bias', () => net.active('classifier.bias', [net.outputs]));
  // Every tensor is there, so nothing is drawn.
  return Supernet.load(frozenSpace(net.space, genotype), tensors, net.outputs, new Rng('unused'));
}
