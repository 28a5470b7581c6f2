/**
 * The layers of a network on addresses of the heap: what TensorFlow.js's kernels and whole compiled networks are both
 * made of. Work goes in blocks of rows that fit into the cache, so that what is done to rows before and after a product
 * (normalising, statistics, adding) does not pass through memory. Shapes NHWC; a "row" is one pixel's channels.
 */
import type { Heap } from './heap.js';
import type { Activation } from './ops.js';

/** As the kernels know them. */
export const ACTIVATIONS: Record<Activation, number> = { linear: 0, relu: 1, hswish: 2 };
/** Values as they are: no scale, shift or bias either. */
const PLAIN = -1;
/** Of products: linear, added to what is at their place. */
const ADD = 3;

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

/** What becomes of a layer's results before they are written: activation(result + bias[C]), or that bias and no
 *  activation, added to what is there. With fixed statistics a batch norm is that, its scale being in the weights. */
export interface Finish {
  /** Address of C values. */
  bias: number;
  activation: number;
}

/** Batch norm with fixed statistics as a Finish; its scale has gone into the weights. */
export const folded = ({ shift, activation }: Norm): Finish => ({ bias: shift, activation });

/** The same, added to what is there. */
export const foldedSum = ({ shift }: Norm): Finish => ({ bias: shift, activation: ADD });

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

/** Lays a matrix [K, N] out for multiply(), its columns times the N values at `scale`, if given. */
export function packPanels(heap: Heap, b: Matrix, panels: number, K: number, N: number, scale = 0): void {
  heap.kernels.packPanels(b.at, panels, K, N, b.rowStride, b.columnStride, scale);
}

/** Bytes of a block's input and output rows together. */
const BLOCK_BYTES = 48 * 1024;
/** Most rows of a block: the filter gradient packs both its factors. */
const BLOCK_ROWS = 128;

const blockRows = (rowBytes: number, most: number) =>
  Math.max(4, Math.min(most, Math.floor(BLOCK_BYTES / rowBytes)) & ~3);

interface Product {
  a: Rows;
  /** Of the right factor [K, N]. */
  panels: number;
  y: number;
  N: number;
  K: number;
  finish?: Finish;
}

/** y[M, N] = a[M, K] times packed panels, block after block. */
export function multiply(
  heap: Heap,
  { a, panels, y, M, N, K, finish }: Product & { M: number },
  written?: Written,
): void {
  const { bias, activation } = finish ?? { bias: 0, activation: PLAIN };
  const block = blockRows(4 * (K + N), Infinity);
  const [room = 0] = heap.scratch(4 * block * K);
  for (let row = 0; row < M; row += block) {
    const rows = Math.min(block, M - row);
    const at = y + 4 * row * N;
    heap.kernels.gemm(a(row, rows, room), panels, at, 1, 0, rows, N, K, bias, activation);
    written?.(row, rows, at);
  }
}

/** As multiply(), to padded images: what a depthwise layer of this shape reads. */
export function multiplyPadded(heap: Heap, { a, panels, y, N, K, finish }: Product, s: ConvShape): void {
  const { bias, activation } = finish ?? { bias: 0, activation: PLAIN };
  const { rows, pitch, line, image, inner } = padded(s);
  const { batch, height, width, top, left } = s;
  heap.kernels.frame(y, batch, height, width, N, rows, pitch, top, left);
  const block = Math.max(1, Math.floor(BLOCK_BYTES / (4 * (K + N) * width)));
  const [room = 0] = heap.scratch(4 * block * width * K);
  for (let n = 0; n < batch; n++)
    for (let h = 0; h < height; h += block) {
      const lines = Math.min(block, height - h);
      const from = a((n * height + h) * width, lines * width, room);
      const to = y + n * image + inner + h * line;
      heap.kernels.gemm(from, panels, to, lines, line, width, N, K, bias, activation);
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
    kernels.gemm(d, input.panels, to, 1, 0, rows, K, N, 0, PLAIN);
    input.written?.(row, rows, to);
  }
  if (filter) kernels.outerStore(tiles, filter.at, K, N, filter.stride);
}

/** Output pixels that the depthwise filter gradient takes at a time; must equal BAND in kernels/depthwise.ts. */
const BAND = 64;
/** Values of the images that a depthwise layer takes at a time. */
const GROUP = 8192;
/** Kernels read whole vectors: up to 3 values more. */
const SLACK = 64;

export const tapBytes = (k: number, channels: number) => Math.ceil(channels / 4) * k * k * 16;

/** Images as depthwise kernels read them: zeros around, so that every window of every output is there. */
function padded(s: ConvShape) {
  const rows = Math.max((s.outHeight - 1) * s.stride + s.filterHeight, s.top + s.height);
  const pitch = Math.max((s.outWidth - 1) * s.stride + s.filterWidth, s.left + s.width);
  const pixel = 4 * s.channels;
  const line = pixel * pitch;
  /** Bytes of a line and of an image, and from an image's begin to its first pixel. */
  return { rows, pitch, line, image: line * rows, inner: line * s.top + pixel * s.left };
}

export const paddedBytes = (s: ConvShape) => s.batch * padded(s).image + SLACK;

/** A depthwise filter [k, k, C]; its taps are `stride` values apart. */
export interface Taps {
  at: number;
  stride: number;
}

/** Lays a filter out for depthwisePadded(), its channels times the C values at `scale`, if given. */
export function packTaps(
  heap: Heap,
  filter: Taps,
  taps: number,
  { channels, filterHeight }: ConvShape,
  scale = 0,
) {
  heap.kernels.packTaps(filter.at, taps, filterHeight, channels, filter.stride, scale);
}

const normArgs = (norm: Norm | undefined) =>
  [norm?.scale ?? 0, norm?.shift ?? 0, norm?.activation ?? PLAIN] as const;

const groupOf = (s: ConvShape, values: number) =>
  Math.max(1, Math.floor(values / (Math.max(s.height * s.width, s.outHeight * s.outWidth) * s.channels)));

/** depthwise() of images that are padded already, with packed taps. */
export function depthwisePadded(
  heap: Heap,
  s: ConvShape,
  { x, taps, y, finish }: { x: number; taps: number; y: number; finish: Finish },
): void {
  const { line, image } = padded(s);
  heap.kernels.depthwise(
    ...[x, taps, y, s.batch, s.outHeight, s.outWidth, s.channels, s.filterHeight, s.stride, line, image],
    ...[finish.bias, finish.activation],
  );
}

/** Bytes of lines that are padded at a time. */
const PADDED_BYTES = 128 * 1024;

/** y = depthwise convolution of x (normalised on the way in); square filters. `taps`: the filter, packed already. */
export function depthwise(
  heap: Heap,
  s: ConvShape,
  given: { x: number; norm?: Norm | undefined; y: number; finish?: Finish } & (
    { filter: Taps } | { taps: number }
  ),
  written?: Written,
): void {
  const { x, norm, y } = given;
  const { bias, activation: end } = given.finish ?? { bias: 0, activation: PLAIN };
  const { kernels } = heap;
  const { channels: C, filterHeight: k, height, width, outHeight, outWidth, stride } = s;
  const { line, rows } = padded(s);
  const [scale, shift, activation] = normArgs(norm);
  // A band of output rows, or all of several images.
  const most = Math.floor((PADDED_BYTES / line - k) / stride) + 1;
  const band = Math.max(1, Math.min(outHeight, most));
  const lines = band === outHeight ? rows : (band - 1) * stride + k;
  const group = Math.min(
    groupOf(s, 4 * GROUP),
    Math.max(1, Math.floor(PADDED_BYTES / (lines * line))),
    s.batch,
  );
  const [own = 0, room = 0] = heap.scratch(tapBytes(k, C), group * lines * line + SLACK);
  const taps = 'taps' in given ? given.taps : own;
  if ('filter' in given) packTaps(heap, given.filter, taps, s);
  const [input, output] = [height * width, outHeight * outWidth];
  for (let n = 0; n < s.batch; n += group) {
    const images = Math.min(group, s.batch - n);
    const at = y + 4 * n * output * C;
    for (let o = 0; o < outHeight; o += band) {
      const count = Math.min(band, outHeight - o);
      for (let i = 0; i < images; i++) {
        const from = x + 4 * (n + i) * input * C;
        const to = room + i * lines * line;
        kernels.pad(
          from,
          to,
          o * stride - s.top,
          lines,
          height,
          width,
          C,
          s.left,
          line,
          scale,
          shift,
          activation,
        );
      }
      const to = at + 4 * o * outWidth * C;
      kernels.depthwise(room, taps, to, images, count, outWidth, C, k, stride, line, lines * line, bias, end);
    }
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

/** A padded plane of four channels that holds the input at (top, left) and every window of the outputs. */
function planes(s: ConvShape): { rows: number; pitch: number; bytes: number } {
  const { rows, pitch } = padded(s);
  return { rows, pitch, bytes: 4 * rows * pitch * 16 + SLACK };
}

/**
 * How far, in one direction, the windows of an input gradient reach in the output's gradient: positions before its first
 * and up to its end. Input positions of one phase (position + pad modulo the stride) see the same taps.
 */
function reach(size: number, out: number, pad: number, k: number, stride: number) {
  let [before, end] = [0, out];
  for (let phase = 0; phase < Math.min(stride, size); phase++) {
    const first = (phase + pad) % stride;
    const taps = Math.max(0, Math.ceil((k - first) / stride));
    const start = (phase + pad - first) / stride - (taps - 1);
    before = Math.max(before, -start);
    end = Math.max(end, start + Math.ceil((size - phase) / stride) - 1 + taps);
  }
  return { before, end };
}

/** The gradients of depthwise() in its filter, its input or both, in one pass. */
export function depthwiseBack(heap: Heap, s: ConvShape, { dy, filter, input }: DepthwiseGradients): void {
  const { kernels } = heap;
  const { channels: C, filterHeight: k, height, width, outHeight, outWidth, stride, top, left } = s;
  const plane = planes(s);
  const [down, across] = [reach(height, outHeight, top, k, stride), reach(width, outWidth, left, k, stride)];
  const border = Math.max(down.before, across.before);
  const line = 4 * C * (border + across.end);
  const bytes = line * (border + down.end) + SLACK;
  const group = groupOf(s, GROUP);
  const [pixels, outputs] = [height * width, outHeight * outWidth];
  const [taps = 0, sums = 0, forX = 0, forDy = 0, grads = 0, made = 0] = heap.scratch(
    ...[tapBytes(k, C), tapBytes(k, C), plane.bytes, bytes, Math.max(BAND, outWidth) * 64],
    4 * group * outputs * C,
  );
  if (filter) {
    heap.zero(sums, tapBytes(k, C));
    heap.zero(forX, plane.bytes);
  }
  if (input) {
    kernels.packPhases(input.filter.at, taps, k, C, input.filter.stride, stride, top, left);
    heap.zero(forDy, bytes);
  }
  for (let n = 0; n < s.batch; n += group) {
    const images = Math.min(group, s.batch - n);
    const d = dy(n * outputs, images * outputs, made);
    const at = 4 * n * pixels * C;
    if (filter)
      kernels.depthwiseBackFilter(
        ...[filter.x + at, d, sums, forX, grads, images, height, width, C, outHeight, outWidth, k, stride],
        ...[top, left, plane.rows, plane.pitch, ...normArgs(filter.norm)],
      );
    if (!input) continue;
    for (let i = 0; i < images; i++) {
      const to = forDy + border * line;
      kernels.pad(
        d + 4 * i * outputs * C,
        to,
        0,
        outHeight,
        outHeight,
        outWidth,
        C,
        border,
        line,
        0,
        0,
        PLAIN,
      );
      const dx = input.dx + at + 4 * i * pixels * C;
      kernels.depthwiseBackInput(forDy, taps, dx, height, width, C, k, stride, top, left, line, border);
    }
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
