/** Weights as plain data: what is saved, loaded and exported. */
import type { tf } from '@ntaa/engine';

/** Row-major values. */
export interface PlainTensor {
  shape: number[];
  data: Float32Array;
}

export type NamedTensors = Map<string, PlainTensor>;

/** A copy of the tensor's values. */
export function plain(tensor: tf.Tensor): PlainTensor {
  return { shape: [...tensor.shape], data: Float32Array.from(tensor.dataSync()) };
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((length, i) => length === b[i]);
}

/** The tensor of that name; throws Error when it is missing or has another shape. */
export function requireTensor(tensors: NamedTensors, name: string, shape: readonly number[]): PlainTensor {
  const tensor = tensors.get(name);
  if (!tensor) throw new Error(`tensor ${name} is missing`);
  if (!sameShape(tensor.shape, shape) || tensor.data.length !== sizeOf(shape))
    throw new Error(`tensor ${name} has shape [${tensor.shape.join(', ')}], expected [${shape.join(', ')}]`);
  return tensor;
}
