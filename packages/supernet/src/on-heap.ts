/** What programs on the engine's heap have in common: where a network's parameters lie, and the shapes of its layers. */
import { layers, type Heap, type tf } from '@ntaa/engine';
import type { ConvLayer } from '@ntaa/nas';
import type { Supernet } from './supernet.js';

/** A layer's convolution for `batch` images of height x width. */
export function shapeOf(
  layer: ConvLayer,
  batch: number,
  [height, width]: readonly [number, number],
): layers.ConvShape {
  const { kernel, stride, channelsIn, channelsOut } = layer;
  const [outHeight, outWidth] = [Math.ceil(height / stride), Math.ceil(width / stride)];
  const [filterHeight, filterWidth, top, left] = [kernel, kernel, kernel >> 1, kernel >> 1];
  const [channels, outChannels] = [channelsIn, channelsOut];
  // prettier-ignore
  return {
    batch, height, width, channels, outHeight, outWidth, outChannels, filterHeight, filterWidth, stride, top, left,
  };
}

/** A layer's part of its weight, not of a depthwise layer. */
export function weightOf(heap: Heap, net: Supernet, { name }: ConvLayer): layers.Matrix {
  const weight = net.variable(`${name}.weight`);
  return { at: heap.pointer(weight), rowStride: weight.shape[3]!, columnStride: 1 };
}

/** Addresses of a layer's batch norm's parameters. */
export function normOf(heap: Heap, net: Supernet, { name }: ConvLayer): { gamma: number; beta: number } {
  const at = (key: string) => heap.pointer(net.variable(`${name}.bn.${key}`));
  return { gamma: at('gamma'), beta: at('beta') };
}

/** Lays the classifier's weight out for its product. */
export function classifierPanels(heap: Heap, net: Supernet, panels: number): void {
  const at = heap.pointer(net.variable('classifier.weight'));
  const weight = { at, rowStride: net.outputs, columnStride: 1 };
  layers.packPanels(heap, weight, panels, net.space.head.width, net.outputs);
}

/** [N, H, W] of images [N, H, W, 3]. Throws RangeError for other shapes. */
export function requireImages(x: tf.Tensor4D): [number, number, number] {
  const [batch, height, width, channels] = x.shape;
  if (x.rank !== 4 || batch === 0 || channels !== 3 || x.dtype !== 'float32')
    throw new RangeError(
      `images have shape [${x.shape.join(', ')}] of ${x.dtype}, not [N, H, W, 3] of float32`,
    );
  return [batch, height, width];
}
