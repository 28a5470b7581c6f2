/** The tensors a supernet consists of: names, shapes and initial values. */
import type { SearchSpace } from '@ntaa/contracts';
import { largest, units, type ConvLayer } from '@ntaa/nas';
import type { Rng } from '@ntaa/random';
import { NECK } from './neck.js';
import { sizeOf } from './tensors.js';

export interface TensorSpec {
  name: string;
  shape: number[];
  kind: 'conv' | 'depthwise' | 'transform' | 'gamma' | 'beta' | 'classifier' | 'classifier-bias';
  weightDecay: 0 | 1;
}

/** Name of the matrix from a depthwise kernel's centre to its next smaller kernel, e.g. `….depthwise.5to3`. */
export function transformName(layer: string, kernel: number): string {
  return `${layer}.${kernel}to${kernel - 2}`;
}

/** Every tensor, in the order in which initial values are drawn. */
export function layout(space: SearchSpace, outputs: number): TensorSpec[] {
  const layers = units(space, largest(space)).flatMap((unit) => unit.layers);
  return [
    ...layers.flatMap((layer) => layerTensors(space, layer)),
    ...neckTensors(space),
    ...classifierTensors(space, outputs),
  ];
}

function layerTensors(space: SearchSpace, layer: ConvLayer): TensorSpec[] {
  const { name, depthwise, kernel, channelsIn, channelsOut } = layer;
  const shape = depthwise ? [kernel, kernel, channelsOut, 1] : [kernel, kernel, channelsIn, channelsOut];
  return [
    { name: `${name}.weight`, shape, kind: depthwise ? 'depthwise' : 'conv', weightDecay: 1 },
    ...(depthwise ? transforms(space, name, kernel) : []),
    { name: `${name}.bn.gamma`, shape: [channelsOut], kind: 'gamma', weightDecay: 0 },
    { name: `${name}.bn.beta`, shape: [channelsOut], kind: 'beta', weightDecay: 0 },
  ];
}

/** One matrix for each step from the block's largest kernel down to its smallest. */
function transforms(space: SearchSpace, name: string, largestKernel: number): TensorSpec[] {
  const [, stage, , block] = name.split('.').map(Number);
  const smallestKernel = Math.min(...space.stages[stage!]!.blocks[block!]!.kernels);
  const result: TensorSpec[] = [];
  for (let kernel = largestKernel; kernel > smallestKernel; kernel -= 2) {
    const taps = (kernel - 2) ** 2;
    result.push({
      name: transformName(name, kernel),
      shape: [taps, taps],
      kind: 'transform',
      weightDecay: 0,
    });
  }
  return result;
}

export function neckTensors({ head }: SearchSpace): TensorSpec[] {
  return head.neck ? [{ name: `${NECK}.gamma`, shape: [head.width], kind: 'gamma', weightDecay: 0 }] : [];
}

export function classifierTensors(space: SearchSpace, outputs: number): TensorSpec[] {
  return [
    { name: 'classifier.weight', shape: [space.head.width, outputs], kind: 'classifier', weightDecay: 1 },
    { name: 'classifier.bias', shape: [outputs], kind: 'classifier-bias', weightDecay: 0 },
  ];
}

/** He initialisation by fan-out for convolutions, identity for kernel transforms, N(0, 0.01) for the classifier. */
export function initialValue({ kind, shape }: TensorSpec, rng: Rng): Float32Array {
  const size = sizeOf(shape);
  const normal = (deviation: number) => Float32Array.from({ length: size }, () => deviation * rng.normal());
  const [rows, columns] = shape as [number, number];
  switch (kind) {
    case 'conv':
      return normal(Math.sqrt(2 / (rows * columns * shape[3]!)));
    case 'depthwise':
      return normal(Math.sqrt(2 / (rows * columns)));
    case 'transform':
      return Float32Array.from({ length: size }, (_, i) => (i % (columns + 1) === 0 ? 1 : 0));
    case 'gamma':
      return new Float32Array(size).fill(1);
    case 'beta':
    case 'classifier-bias':
      return new Float32Array(size);
    case 'classifier':
      return normal(0.01);
  }
}
