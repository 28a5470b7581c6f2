/** A genotype as the plain network it stands for: the one place where its layers, shapes and names are derived. */
import type { Activation, Genotype, SearchSpace } from '@ntaa/contracts';
import { inputSize, requireMember } from './space.js';

/** A convolution without bias, padded by kernel >> 1, then batch norm, then the activation. */
export interface ConvLayer {
  /** Prefix of its tensors' names, e.g. `stages.0.blocks.1.depthwise`. */
  name: string;
  depthwise: boolean;
  kernel: number;
  stride: number;
  channelsIn: number;
  channelsOut: number;
  /** Of the output, px. */
  height: number;
  width: number;
  activation: Activation | 'linear';
}

/** Layers in a row; with `residual`, the unit's input is added to their output. */
export interface Unit {
  layers: ConvLayer[];
  residual: boolean;
}

/**
 * Stem, active blocks and, where the space has one, head convolution of a genotype, in order; global average pooling and the linear classifier
 * follow. Throws RangeError when the genotype is not a member of the space, or a head without convolution is as wide as
 * no stage's output.
 */
export function units(space: SearchSpace, genotype: Genotype): Unit[] {
  requireMember(space, genotype);
  let { width, height } = inputSize(space, genotype);
  let channels = 3;
  const layer = (
    name: string,
    channelsOut: number,
    activation: ConvLayer['activation'],
    shape: { kernel?: number; stride?: number; depthwise?: boolean } = {},
  ): ConvLayer => {
    const { kernel = 1, stride = 1, depthwise = false } = shape;
    [height, width] = [Math.ceil(height / stride), Math.ceil(width / stride)];
    const channelsIn = channels;
    channels = channelsOut;
    return { name, depthwise, kernel, stride, channelsIn, channelsOut, height, width, activation };
  };
  const { stem, head } = space;
  const result: Unit[] = [
    {
      layers: [layer('stem', stem.width, stem.activation, { kernel: 3, stride: stem.stride })],
      residual: false,
    },
  ];
  space.stages.forEach((stage, i) => {
    genotype.stages[i]!.forEach(({ kernel, expand }, j) => {
      const name = `stages.${i}.blocks.${j}`;
      const stride = j === 0 ? stage.stride : 1;
      const mid = channels * expand;
      const residual = stride === 1 && channels === stage.width;
      const layers = [
        layer(`${name}.expand`, mid, stage.activation),
        layer(`${name}.depthwise`, mid, stage.activation, { kernel, stride, depthwise: true }),
        layer(`${name}.project`, stage.width, 'linear'),
      ];
      result.push({ layers, residual });
    });
  });
  if (head.activation) result.push({ layers: [layer('head', head.width, head.activation)], residual: false });
  else if (channels !== head.width)
    throw new RangeError(`the head of ${space.name} is ${head.width} wide, the last stage ${channels}`);
  return result;
}
