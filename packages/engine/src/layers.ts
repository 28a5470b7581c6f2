/**
 * The layers of a network on addresses of the heap: what TensorFlow.js's kernels and whole compiled networks are both
 * made of. Work goes in blocks of rows that fit into the cache, so that what is done to rows before and after a product
 * (normalising, statistics, adding) does not pass through memory. Shapes NHWC; a "row" is one pixel's channels.
 */
import type { Heap } from './heap.js';
import type { Activation } from './ops.js';

/** As the kernels know them. */
export const ACTIVATIONS: Record<Activation, number> = { linear: 0, relu: 1, hswish: 2 };
const NO_ACTIVATION = -1;

/** Address of `rows` rows from `row` on: where they lie, or `room`, where they are made now. */
export type Rows = (row: number, rows: number, room: number) => number;

/** Told of rows that were just written (counted from the first of all) and where they are: still in the cache. */
export type Written = (row: number, rows: number, at: number) => void;

/** Values [M, C] to be read as activation(value * scale + shift), or as they are. */
export interface Norm {
  /** Addresses of C values. */
  scale: number;
  shift: number;
  activation: number;
}

/** Rows of C values as they are. */
export function plain(at: number, C: number): Rows {
  return (row) => at + 4 * row * C;
}

export function normalised(heap: Heap, at: number, C: number, norm: Norm): Rows {
  const { affine } = heap.kernels;
  return (row, rows, room) => {
    affine(at + 4 * row * C, room, rows, C, norm.scale, norm.shift, norm.activation);
    return room;
  };
}

/** Both gradients of batch norm in its input: d * scale + x * slope + offset; see normGrad in kernels/norm.ts. */
export function normGradient(
  heap: Heap,
  { x, d, C }: { x: number; d: number; C: number },
  by: { scale: number; shift: number; slope: number; offset: number },
): Rows {
  const { affineGrad } = heap.kernels;
  return (row, rows, room) => {
    const at = 4 * row * C;
    affineGrad(x + at, d + at, room, rows, C, by.scale, by.shift, by.slope, by.offset, ACTIVATIONS.linear);
    return room;
  };
}

export interface ConvShape {
  batch: number;
  height: number;
  width: number;
  channels: number;
  outHeight: number;
  outWidth: number;
  outChannels: number;
  filterHeight: number;
  filterWidth: number;
  stride: number;
  top: number;
  left: number;
}

/** Rows, columns and depth of the matrix product that a convolution is. */
export function product(s: ConvShape): { M: number; N: number; K: number } {
  return {
    M: s.batch * s.outHeight * s.outWidth,
    N: s.outChannels,
    K: s.filterHeight * s.filterWidth * s.channels,
  };
}

export function isPointwise(s: ConvShape): boolean {
  const sameSize = s.outHeight === s.height && s.outWidth === s.width;
  return (
    s.filterHeight === 1 && s.filterWidth === 1 && s.stride === 1 && sameSize && s.top === 0 && s.left === 0
  );
}

const patchArgs = (s: ConvShape) => [
  ...[s.height, s.width, s.channels, s.outHeight, s.outWidth, s.filterHeight, s.filterWidth],
  ...[s.stride, s.top, s.left],
];

/** What the filter sees of x, one row of kh * kw * C values for every output pixel. */
export function patches(heap: Heap, x: number, shape: ConvShape): Rows {
  const args = patchArgs(shape);
  return (row, rows, room) => {
    heap.kernels.gather(x, room, row, rows, ...args);
    return room;
  };
}

/** The reverse, adding: for gradients. */
export function scatterPatches(heap: Heap, x: number, shape: ConvShape): Written {
  const args = patchArgs(shape);
  return (row, rows, at) => void heap.kernels.scatter(x, at, row, rows, ...args);
}

/** The right factor of a product: where it lies, and how far apart (in values) its rows and its columns are. */
export interface Matrix {
  at: number;
  rowStride: number;
  columnStride: number;
}

export const panelBytes = (K: number, N: number) => K * Math.ceil(N / 8) * 32;

/** Lays a matrix [K, N] out for multiply(). */
export function packPanels(heap: Heap, b: Matrix, panels: number, K: number, N: number): void {
  heap.kernels.packPanels(b.at, panels, K, N, b.rowStride, b.columnStride);
}

/** Bytes of a block's input and output rows together. */
const BLOCK_BYTES = 48 * 1024;
/** Most rows of a block: the filter gradient packs both its factors. */
const BLOCK_ROWS = 128;

const blockRows = (rowBytes: number, most: number) =>
  Math.max(4, Math.min(most, Math.floor(BLOCK_BYTES / rowBytes)) & ~3);

/** y[M, N] = a[M, K] times packed panels, block after block. */
export function multiply(
  heap: Heap,
  { a, panels, y, M, N, K }: { a: Rows; panels: number; y: number; M: number; N: number; K: number },
  written?: Written,
): void {
  const block = blockRows(4 * (K + N), Infinity);
  const [room = 0] = heap.scratch(4 * block * K);
  for (let row = 0; row < M; row += block) {
    const rows = Math.min(block, M - row);
    const at = y + 4 * row * N;
    heap.kernels.gemm(a(row, rows, room), panels, at, rows, N, K);
    written?.(row, rows, at);
  }
}

export interface ProductGradients {
  M: number;
  N: number;
  K: number;
  /** Gradient of the product [M, N]. */
  dy: Rows;
  /** Adds a^T dy to a matrix [K, N] whose rows are `stride` values apart. */
  filter?: { a: Rows; at: number; stride: number };
  /** Writes dy times the panels of the transposed filter [N, K]; `to` says where rows go. */
  input?: { panels: number; to: Rows; written?: Written };
}

/** The gradients of a product in either factor or both, in one pass. */
export function multiplyBack(heap: Heap, { M, N, K, dy, filter, input }: ProductGradients): void {
  const { kernels } = heap;
  const block = blockRows(4 * (K + N), BLOCK_ROWS);
  const tileBytes = Math.ceil(K / 4) * Math.ceil(N / 8) * 128;
  const packedBytes = block * (Math.ceil(K / 4) * 16 + Math.ceil(N / 8) * 32);
  const [forDy = 0, forA = 0, tiles = 0, packed = 0] = heap.scratch(
    ...[4 * block * N, 4 * block * K, tileBytes, packedBytes],
  );
  if (filter) heap.zero(tiles, tileBytes);
  for (let row = 0; row < M; row += block) {
    const rows = Math.min(block, M - row);
    const d = dy(row, rows, forDy);
    if (filter) kernels.outerBlock(filter.a(row, rows, forA), d, tiles, packed, rows, K, N);
    if (!input) continue;
    const to = input.to(row, rows, forA);
    kernels.gemm(d, input.panels, to, rows, K, N);
    input.written?.(row, rows, to);
  }
  if (filter) kernels.outerStore(tiles, filter.at, K, N, filter.stride);
}

/** Tiles of 8 pixels may read this far behind a plane's last row. */
const SLACK = 1024;
/** Output pixels that depthwise kernels take at a time; must equal BAND in kernels/depthwise.ts. */
const BAND = 64;
/** Values of the images that a depthwise layer takes at a time. */
const GROUP = 8192;

export const tapBytes = (k: number, channels: number) => Math.ceil(channels / 4) * k * k * 16;

/** A padded plane that holds the input at (top, left) and every window of the outputs. */
function planes(s: ConvShape): { rows: number; pitch: number; bytes: number } {
  const k = s.filterHeight;
  const rows = Math.max((s.outHeight - 1) * s.stride + k, s.top + s.height);
  const pitch = Math.max((s.outWidth - 1) * s.stride + k, s.left + s.width);
  return { rows, pitch, bytes: 4 * rows * pitch * 16 + SLACK };
}

/** A depthwise filter [k, k, C]; its taps are `stride` values apart. */
export interface Taps {
  at: number;
  stride: number;
}

const normArgs = (norm: Norm | undefined) => [
  ...[norm?.scale ?? 0, norm?.shift ?? 0, norm?.activation ?? NO_ACTIVATION],
];

const groupOf = (s: ConvShape) =>
  Math.max(1, Math.floor(GROUP / (Math.max(s.height * s.width, s.outHeight * s.outWidth) * s.channels)));

/** y = depthwise convolution of x (normalised on the way in); square filters, stride 1 or 2. */
export function depthwise(
  heap: Heap,
  s: ConvShape,
  { x, norm, filter, y }: { x: number; norm?: Norm | undefined; filter: Taps; y: number },
  written?: Written,
): void {
  const { channels: C, filterHeight: k } = s;
  const plane = planes(s);
  const [taps = 0, room = 0] = heap.scratch(tapBytes(k, C), plane.bytes);
  heap.kernels.packTaps(filter.at, taps, k, C, filter.stride);
  heap.zero(room, plane.bytes);
  const group = groupOf(s);
  const [input, output] = [s.height * s.width, s.outHeight * s.outWidth];
  for (let n = 0; n < s.batch; n += group) {
    const images = Math.min(group, s.batch - n);
    const at = y + 4 * n * output * C;
    heap.kernels.depthwise(
      ...[x + 4 * n * input * C, taps, at, room, images, s.height, s.width, C, s.outHeight, s.outWidth],
      ...[k, s.stride, s.top, s.left, plane.rows, plane.pitch, ...normArgs(norm)],
    );
    written?.(n * output, images * output, at);
  }
}

export interface DepthwiseGradients {
  dy: Rows;
  /** Adds to a filter gradient; x as in depthwise(). */
  filter?: { x: number; norm?: Norm | undefined; to: Taps };
  /** Writes the gradient in the input. */
  input?: { filter: Taps; dx: number; written?: Written };
}

/** The gradients of depthwise() in its filter, its input or both, in one pass. */
export function depthwiseBack(heap: Heap, s: ConvShape, { dy, filter, input }: DepthwiseGradients): void {
  const { kernels } = heap;
  const { channels: C, filterHeight: k } = s;
  const plane = planes(s);
  // Windows of dy begin at most k - 1 before its first value and end at most pad + k after the last one needed.
  const extent = (size: number, out: number, pad: number) =>
    k + Math.max(out, Math.ceil(size / s.stride)) + pad + k;
  const [rows, pitch] = [extent(s.height, s.outHeight, s.top), extent(s.width, s.outWidth, s.left)];
  const bytes = 4 * rows * pitch * 16 + SLACK;
  const group = groupOf(s);
  const [pixels, outputs] = [s.height * s.width, s.outHeight * s.outWidth];
  const [taps = 0, sums = 0, forX = 0, forDy = 0, grads = 0, made = 0] = heap.scratch(
    ...[tapBytes(k, C), tapBytes(k, C), plane.bytes, bytes, Math.max(BAND, s.outWidth) * 64],
    4 * group * outputs * C,
  );
  if (filter) {
    heap.zero(sums, tapBytes(k, C));
    heap.zero(forX, plane.bytes);
  }
  if (input) {
    kernels.packPhases(input.filter.at, taps, k, C, input.filter.stride, s.stride, s.top, s.left);
    heap.zero(forDy, bytes);
  }
  for (let n = 0; n < s.batch; n += group) {
    const images = Math.min(group, s.batch - n);
    const d = dy(n * outputs, images * outputs, made);
    const size = [images, s.height, s.width, C, s.outHeight, s.outWidth, k, s.stride, s.top, s.left];
    const at = 4 * n * pixels * C;
    if (filter)
      kernels.depthwiseBackFilter(
        ...[filter.x + at, d, sums, forX, grads, ...size, plane.rows, plane.pitch],
        ...normArgs(filter.norm),
      );
    if (!input) continue;
    kernels.depthwiseBackInput(d, taps, input.dx + at, forDy, ...size, rows, pitch, k);
    input.written?.(n * pixels, images * pixels, input.dx + at);
  }
  if (filter) kernels.addTaps(sums, filter.to.at, k, C, filter.to.stride);
}

/** Where a batch norm keeps what it knows, each C values rounded up to 4: addresses. */
export interface NormAreas extends Norm {
  totals: number;
  mean: number;
  variance: number;
  slope: number;
  offset: number;
}

const vectorBytes = (C: number) => Math.ceil(C / 4) * 16;

export const normBytes = (C: number) => 16 * C + 16 + 6 * vectorBytes(C);

export function normAreas(at: number, C: number, activation: Activation): NormAreas {
  const [mean, variance, scale, shift, slope, offset] = [0, 1, 2, 3, 4, 5].map(
    (i) => at + 16 * C + 16 + i * vectorBytes(C),
  ) as [number, number, number, number, number, number];
  return { totals: at, mean, variance, scale, shift, slope, offset, activation: ACTIVATIONS[activation] };
}

/** Takes the statistics of rows [M, C] as they are written. */
export function collectMoments(heap: Heap, areas: NormAreas, C: number): Written {
  const { totals, mean, scale, shift } = areas;
  return (row, rows, at) => void heap.kernels.addMoments(at, rows, C, row, totals, mean, scale, shift);
}

/** Mean and variance from what was collected over M rows. */
export function finishMoments(heap: Heap, { totals, mean, variance }: NormAreas, M: number, C: number): void {
  heap.kernels.moments(totals, M, C, mean, variance);
}

/** Scale and shift from mean and variance. */
export function setScale(
  heap: Heap,
  areas: Pick<NormAreas, 'mean' | 'variance' | 'scale' | 'shift'>,
  { gamma, beta, epsilon, C }: { gamma: number; beta: number; epsilon: number; C: number },
): void {
  heap.kernels.normScale(C, gamma, beta, areas.mean, areas.variance, epsilon, areas.scale, areas.shift);
}

/** Mean cross entropy of softmax(logits) [N, K] against soft targets [N, K]; writes its gradient in the logits. */
export function crossEntropy(
  heap: Heap,
  { logits, targets, gradient }: Record<'logits' | 'targets' | 'gradient', number>,
  N: number,
  K: number,
): number {
  const [z, t, g] = [logits, targets, gradient].map((at) => heap.floatsAt(at, N * K)) as [
    ...[Float32Array, Float32Array, Float32Array],
  ];
  let total = 0;
  for (let row = 0; row < N * K; row += K) {
    let top = -Infinity;
    for (let k = row; k < row + K; k++) top = Math.max(top, z[k]!);
    let [sum, mass] = [0, 0];
    for (let k = row; k < row + K; k++) {
      sum += Math.exp(z[k]! - top);
      mass += t[k]!;
    }
    const logSum = top + Math.log(sum);
    for (let k = row; k < row + K; k++) {
      const logP = z[k]! - logSum;
      if (t[k]! !== 0) total -= t[k]! * logP;
      g[k] = (Math.exp(logP) * mass - t[k]!) / N;
    }
  }
  return total / N;
}
