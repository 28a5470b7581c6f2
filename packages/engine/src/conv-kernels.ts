/** Conv2D, DepthwiseConv2dNative and their gradients on our kernels. Shapes NHWC, filters [kh, kw, in, out]. */
import * as tf from '@tensorflow/tfjs-core';
import type { Heap } from './heap.js';
import type { Override } from './install.js';
import {
  depthwise,
  depthwiseBack,
  isPointwise,
  multiply,
  multiplyBack,
  packPanels,
  panelBytes,
  patches,
  plain,
  product,
  scatterPatches,
  type ConvShape,
  type Rows,
  type Taps,
} from './layers.js';

type Info = tf.backend_util.Conv2DInfo;
type Shape4D = [number, number, number, number];

interface ConvAttrs {
  strides: number | [number, number];
  pad: 'valid' | 'same' | number | tf.backend_util.ExplicitPadding;
  dilations?: number | [number, number];
  dataFormat?: 'NHWC' | 'NCHW';
  dimRoundingMode?: 'floor' | 'round' | 'ceil';
  filterShape: Shape4D;
  inputShape: Shape4D;
}

function convInfo(x: number[], filter: number[], attrs: ConvAttrs, depthwise: boolean): Info | undefined {
  const { strides, pad, dilations, dimRoundingMode, dataFormat } = attrs;
  if (dataFormat && dataFormat !== 'NHWC') return undefined;
  const info = tf.backend_util.computeConv2DInfo(
    x as Shape4D,
    filter as Shape4D,
    strides,
    dilations ?? 1,
    pad,
    dimRoundingMode,
    depthwise,
  );
  const plain =
    info.dilationHeight === 1 && info.dilationWidth === 1 && info.strideHeight === info.strideWidth;
  if (!plain) return undefined;
  if (!depthwise) return info;
  const ours =
    info.strideHeight <= 2 && info.filterHeight === info.filterWidth && info.inChannels === info.outChannels;
  return ours ? info : undefined;
}

const shapeOf = (i: Info): ConvShape => ({
  ...{ batch: i.batchSize, height: i.inHeight, width: i.inWidth, channels: i.inChannels },
  ...{ outHeight: i.outHeight, outWidth: i.outWidth, outChannels: i.outChannels },
  ...{ filterHeight: i.filterHeight, filterWidth: i.filterWidth, stride: i.strideHeight },
  ...{ top: i.padInfo.top, left: i.padInfo.left },
});

/** The input as the rows of a matrix product. */
function rowsOf(heap: Heap, x: tf.TensorInfo, shape: ConvShape): Rows {
  const at = heap.pointer(x);
  return isPointwise(shape) ? plain(at, shape.channels) : patches(heap, at, shape);
}

function conv2d(heap: Heap, x: tf.TensorInfo, filter: tf.TensorInfo, info: Info): tf.TensorInfo {
  const shape = shapeOf(info);
  const { M, N, K } = product(shape);
  const y = heap.output(info.outShape);
  const panels = heap.arena(panelBytes(K, N));
  packPanels(heap, { at: heap.pointer(filter), rowStride: N, columnStride: 1 }, panels, K, N);
  multiply(heap, { a: rowsOf(heap, x, shape), panels, y: heap.pointer(y), M, N, K });
  return y;
}

function conv2dBackInput(heap: Heap, dy: tf.TensorInfo, filter: tf.TensorInfo, info: Info): tf.TensorInfo {
  const shape = shapeOf(info);
  const { M, N, K } = product(shape);
  const dx = heap.output(info.inShape);
  const panels = heap.arena(panelBytes(N, K));
  packPanels(heap, { at: heap.pointer(filter), rowStride: 1, columnStride: N }, panels, N, K);
  const at = heap.pointer(dx);
  const direct = isPointwise(shape);
  if (!direct) heap.floats(dx).fill(0);
  const to: Rows = direct ? plain(at, K) : (_row, _rows, room) => room;
  multiplyBack(heap, {
    ...{ M, N, K, dy: plain(heap.pointer(dy), N) },
    input: { panels, to, ...(!direct && { written: scatterPatches(heap, at, shape) }) },
  });
  return dx;
}

function conv2dBackFilter(heap: Heap, x: tf.TensorInfo, dy: tf.TensorInfo, info: Info): tf.TensorInfo {
  const shape = shapeOf(info);
  const { M, N, K } = product(shape);
  const dw = heap.output([info.filterHeight, info.filterWidth, info.inChannels, N]);
  heap.floats(dw).fill(0);
  const filter = { a: rowsOf(heap, x, shape), at: heap.pointer(dw), stride: N };
  multiplyBack(heap, { M, N, K, dy: plain(heap.pointer(dy), N), filter });
  return dw;
}

const tapsOf = (heap: Heap, filter: tf.TensorInfo, shape: ConvShape): Taps => ({
  at: heap.pointer(filter),
  stride: shape.channels,
});

function depthwise2d(heap: Heap, x: tf.TensorInfo, filter: tf.TensorInfo, info: Info): tf.TensorInfo {
  const shape = shapeOf(info);
  const y = heap.output(info.outShape);
  depthwise(heap, shape, { x: heap.pointer(x), filter: tapsOf(heap, filter, shape), y: heap.pointer(y) });
  return y;
}

function depthwiseBackInput(heap: Heap, dy: tf.TensorInfo, filter: tf.TensorInfo, info: Info): tf.TensorInfo {
  const shape = shapeOf(info);
  const dx = heap.output(info.inShape);
  const input = { filter: tapsOf(heap, filter, shape), dx: heap.pointer(dx) };
  depthwiseBack(heap, shape, { dy: plain(heap.pointer(dy), shape.channels), input });
  return dx;
}

function depthwiseBackFilter(heap: Heap, x: tf.TensorInfo, dy: tf.TensorInfo, info: Info): tf.TensorInfo {
  const shape = shapeOf(info);
  const dw = heap.output([shape.filterHeight, shape.filterWidth, shape.channels, 1]);
  heap.floats(dw).fill(0);
  const filter = { x: heap.pointer(x), to: tapsOf(heap, dw, shape) };
  depthwiseBack(heap, shape, { dy: plain(heap.pointer(dy), shape.channels), filter });
  return dw;
}

type Apply = (heap: Heap, a: tf.TensorInfo, b: tf.TensorInfo, info: Info) => tf.TensorInfo;

/** An override with two inputs; `shapes` tells the convolution's input and filter shapes. */
function override(
  name: string,
  inputs: [string, string],
  deep: boolean,
  apply: Apply,
  shapes: (a: number[], b: number[], attrs: ConvAttrs) => [number[], number[]],
): Override {
  return {
    name,
    run: (heap, given, attrs) => {
      const [a, b] = inputs.map((key) => given[key] as tf.TensorInfo) as [tf.TensorInfo, tf.TensorInfo];
      if (a.dtype !== 'float32' || b.dtype !== 'float32') return undefined;
      const conv = attrs as unknown as ConvAttrs;
      const [x, filter] = shapes(a.shape, b.shape, conv);
      const info = convInfo(x, filter, conv, deep);
      return info && apply(heap, a, b, info);
    },
  };
}

export const convOverrides: Override[] = [
  override('Conv2D', ['x', 'filter'], false, conv2d, (x, filter) => [x, filter]),
  override('Conv2DBackpropInput', ['dy', 'filter'], false, conv2dBackInput, (_, f, a) => [a.inputShape, f]),
  override('Conv2DBackpropFilter', ['x', 'dy'], false, conv2dBackFilter, (x, _, a) => [x, a.filterShape]),
  override('DepthwiseConv2dNative', ['x', 'filter'], true, depthwise2d, (x, filter) => [x, filter]),
  override('DepthwiseConv2dNativeBackpropInput', ['dy', 'filter'], true, depthwiseBackInput, (_, f, a) => [
    a.inputShape,
    f,
  ]),
  override('DepthwiseConv2dNativeBackpropFilter', ['x', 'dy'], true, depthwiseBackFilter, (x, _, a) => [
    x,
    a.filterShape,
  ]),
];
