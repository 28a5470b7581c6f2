/** Value names and memory layout shared by the formats. */
import type { PlainTensor, StaticGraph } from '@ntaa/supernet';

/** Node name to its name in the file: the input is `image`, the output as given, the rest cannot clash with them. */
export function valueNames(graph: StaticGraph, output: string): Map<string, string> {
  const names = new Map(graph.nodes.map(({ name }) => [name, `net/${name}`]));
  names.set(graph.input.name, 'image');
  names.set(graph.output, output);
  return names;
}

/** A copy with its four axes in another order: axis i of the result is axis `order[i]` of the tensor. */
export function transpose({ shape, data }: PlainTensor, order: readonly number[]): PlainTensor {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const turned = order.map((axis) => shape[axis]!);
  const [sa, sb, sc, sd] = order.map((axis) => strides[axis]!) as [number, number, number, number];
  const [a, b, c, d] = turned as [number, number, number, number];
  const result = new Float32Array(data.length);
  let at = 0;
  for (let i = 0; i < a; i++)
    for (let j = 0; j < b; j++)
      for (let k = 0; k < c; k++)
        for (let l = 0; l < d; l++) result[at++] = data[i * sa + j * sb + k * sc + l * sd]!;
  return { shape: turned, data: result };
}

/** The same memory as bytes. Every format here is little-endian, as is every machine that Node and wasm run on. */
export function bytesOf(data: Float32Array | Int32Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
