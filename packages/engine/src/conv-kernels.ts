/** Conv2D, DepthwiseConv2dNative and their gradients on our kernels. Shapes NHWC, filters [kh, kw, in, out]. */
import * as tf from '@tensorflow/tfjs-core';
import type { Heap } from './heap.js';
import type { Override } from './install.js';

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

/** Bytes of patches made at a time: they should stay in the second-level cache. */
const PATCH_BYTES = 96 * 1024;
/** Rows that the filter gradient takes at a time; must equal OUTER_ROWS in kernels/gemm.ts. */
const OUTER_ROWS = 128;
/** Tiles of 8 pixels may read this far behind a plane's last row. */
const SLACK = 1024;
/** Output pixels that depthwise kernels take at a time; must equal BAND in kernels/depthwise.ts. */
const BAND = 64;

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

const pointwise = (i: Info) =>
  i.filterHeight === 1 &&
  i.filterWidth === 1 &&
  i.strideHeight === 1 &&
  i.outHeight === i.inHeight &&
  i.outWidth === i.inWidth &&
  i.padInfo.top === 0 &&
  i.padInfo.left === 0;

/** Rows, columns and depth of the matrix product that a convolution is. */
const product = (i: Info) => ({
  M: i.batchSize * i.outHeight * i.outWidth,
  N: i.outChannels,
  K: i.filterHeight * i.filterWidth * i.inChannels,
});

const panelBytes = (depth: number, columns: number) => depth * Math.ceil(columns / 8) * 32;
const tileBytes = (K: number, N: number) => Math.ceil(K / 4) * Math.ceil(N / 8) * 128;
const packedBytes = (K: number, N: number) => OUTER_ROWS * (Math.ceil(K / 4) * 16 + Math.ceil(N / 8) * 32);
const chunkRows = (K: number) => Math.max(8, Math.floor(PATCH_BYTES / (K * 4)) & ~3);

function writeGeometry(heap: Heap, at: number, i: Info): void {
  heap
    .intsAt(at, 10)
    .set([
      ...[i.inHeight, i.inWidth, i.inChannels, i.outHeight, i.outWidth],
      ...[i.filterHeight, i.filterWidth, i.strideHeight, i.padInfo.top, i.padInfo.left],
    ]);
}

function conv2d(heap: Heap, x: tf.TensorInfo, filter: tf.TensorInfo, info: Info): tf.TensorInfo {
  const { kernels } = heap;
  const { M, N, K } = product(info);
  const y = heap.output(info.outShape);
  const chunk = chunkRows(K);
  const sizes = pointwise(info) ? [] : [chunk * K * 4, 64];
  const [panels = 0, room = 0, geometry = 0] = heap.scratch(panelBytes(K, N), ...sizes);
  kernels.packPanels(heap.pointer(filter), panels, K, N, N, 1);
  if (pointwise(info)) kernels.gemm(heap.pointer(x), panels, heap.pointer(y), M, N, K);
  else {
    writeGeometry(heap, geometry, info);
    kernels.convForward(heap.pointer(x), panels, heap.pointer(y), room, chunk, M, N, K, geometry);
  }
  return y;
}

function conv2dBackInput(heap: Heap, dy: tf.TensorInfo, filter: tf.TensorInfo, info: Info): tf.TensorInfo {
  const { kernels } = heap;
  const { M, N, K } = product(info);
  const dx = heap.output(info.inShape);
  const chunk = chunkRows(K);
  const sizes = pointwise(info) ? [] : [chunk * K * 4, 64];
  const [panels = 0, room = 0, geometry = 0] = heap.scratch(panelBytes(N, K), ...sizes);
  kernels.packPanels(heap.pointer(filter), panels, N, K, 1, N);
  if (pointwise(info)) kernels.gemm(heap.pointer(dy), panels, heap.pointer(dx), M, K, N);
  else {
    writeGeometry(heap, geometry, info);
    heap.floats(dx).fill(0);
    kernels.convBackInput(heap.pointer(dy), panels, heap.pointer(dx), room, chunk, M, N, K, geometry);
  }
  return dx;
}

function conv2dBackFilter(heap: Heap, x: tf.TensorInfo, dy: tf.TensorInfo, info: Info): tf.TensorInfo {
  const { kernels } = heap;
  const { M, N, K } = product(info);
  const dw = heap.output([info.filterHeight, info.filterWidth, info.inChannels, N]);
  const sizes = pointwise(info) ? [] : [OUTER_ROWS * K * 4, 64];
  const [tiles = 0, packed = 0, room = 0, geometry = 0] = heap.scratch(
    tileBytes(K, N),
    packedBytes(K, N),
    ...sizes,
  );
  const [px, pdy, pdw] = [heap.pointer(x), heap.pointer(dy), heap.pointer(dw)];
  if (pointwise(info)) kernels.gemmOuter(px, pdy, pdw, tiles, packed, M, K, N);
  else {
    writeGeometry(heap, geometry, info);
    kernels.convBackFilter(px, pdy, pdw, room, tiles, packed, M, N, K, geometry);
  }
  return dw;
}

interface Planes {
  rows: number;
  pitch: number;
  bytes: number;
}

/** A padded plane that holds an input of h x w at (top, left) and every window of the outputs outH x outW. */
function planes(
  [h, w]: [number, number],
  [outH, outW]: [number, number],
  k: number,
  stride: number,
  [top, left]: [number, number],
): Planes {
  const rows = Math.max((outH - 1) * stride + k, top + h);
  const pitch = Math.max((outW - 1) * stride + k, left + w);
  return { rows, pitch, bytes: rows * pitch * 16 };
}

const tapBytes = (k: number, channels: number) => Math.ceil(channels / 4) * k * k * 16;

function depthwise(heap: Heap, x: tf.TensorInfo, filter: tf.TensorInfo, i: Info): tf.TensorInfo {
  const y = heap.output(i.outShape);
  const { filterHeight: k, strideHeight: stride, inChannels: C } = i;
  const { top, left } = i.padInfo;
  const plane = planes([i.inHeight, i.inWidth], [i.outHeight, i.outWidth], k, stride, [top, left]);
  const [taps = 0, room = 0] = heap.scratch(tapBytes(k, C), 4 * plane.bytes + SLACK);
  heap.kernels.packTaps(heap.pointer(filter), taps, k, C);
  heap.zero(room, 4 * plane.bytes + SLACK);
  heap.kernels.depthwise(
    ...[heap.pointer(x), taps, heap.pointer(y), room, i.batchSize, i.inHeight, i.inWidth, C],
    ...[i.outHeight, i.outWidth, k, stride, top, left, plane.rows, plane.pitch],
  );
  return y;
}

function depthwiseBackInput(heap: Heap, dy: tf.TensorInfo, filter: tf.TensorInfo, i: Info): tf.TensorInfo {
  const dx = heap.output(i.inShape);
  const { filterHeight: k, strideHeight: stride, inChannels: C } = i;
  const { top, left } = i.padInfo;
  // Windows of dy begin at most k - 1 before its first value and end at most pad + k after the last one needed.
  const extent = (size: number, out: number, pad: number) =>
    k + Math.max(out, Math.ceil(size / stride)) + pad + k;
  const [rows, pitch] = [extent(i.inHeight, i.outHeight, top), extent(i.inWidth, i.outWidth, left)];
  const bytes = 4 * rows * pitch * 16 + SLACK;
  const [taps = 0, room = 0] = heap.scratch(tapBytes(k, C), bytes);
  heap.kernels.packPhases(heap.pointer(filter), taps, k, C, stride, top, left);
  heap.zero(room, bytes);
  heap.kernels.depthwiseBackInput(
    ...[heap.pointer(dy), taps, heap.pointer(dx), room, i.batchSize, i.inHeight, i.inWidth, C],
    ...[i.outHeight, i.outWidth, k, stride, top, left, rows, pitch, k],
  );
  return dx;
}

function depthwiseBackFilter(heap: Heap, x: tf.TensorInfo, dy: tf.TensorInfo, i: Info): tf.TensorInfo {
  const { filterHeight: k, strideHeight: stride, inChannels: C } = i;
  const { top, left } = i.padInfo;
  const dw = heap.output([k, k, C, 1]);
  const plane = planes([i.inHeight, i.inWidth], [i.outHeight, i.outWidth], k, stride, [top, left]);
  const [room = 0, grads = 0, sums = 0] = heap.scratch(
    4 * plane.bytes + SLACK,
    Math.max(BAND, i.outWidth) * 64,
    tapBytes(k, C),
  );
  heap.zero(room, 4 * plane.bytes + SLACK);
  heap.kernels.depthwiseBackFilter(
    ...[heap.pointer(x), heap.pointer(dy), heap.pointer(dw), room, grads, sums, i.batchSize],
    ...[i.inHeight, i.inWidth, C, i.outHeight, i.outWidth, k, stride, top, left, plane.rows, plane.pitch],
  );
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
  override('DepthwiseConv2dNative', ['x', 'filter'], true, depthwise, (x, filter) => [x, filter]),
  override('DepthwiseConv2dNativeBackpropInput', ['dy', 'filter'], true, depthwiseBackInput, (_, f, a) => [
    a.inputShape,
    f,
  ]),
  override('DepthwiseConv2dNativeBackpropFilter', ['x', 'dy'], true, depthwiseBackFilter, (x, _, a) => [
    x,
    a.filterShape,
  ]),
];
