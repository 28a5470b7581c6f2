/**
 * The gradients tfjs-backend-wasm lacks, composed from its stock kernels: one pass over the filter's taps, each a
 * slice of the padded input. Correct and slow; used only when the engine's own kernels cannot be.
 */
import * as tf from '@tensorflow/tfjs-core';

interface Window {
  info: tf.backend_util.Conv2DInfo;
  taps: { row: number; column: number }[];
}

interface Attrs {
  strides: number | [number, number];
  pad: number | 'same' | 'valid' | tf.backend_util.ExplicitPadding;
  dilations?: number | [number, number];
  dimRoundingMode?: 'floor' | 'round' | 'ceil';
  dataFormat?: 'NHWC' | 'NCHW';
}

type Shape4D = [number, number, number, number];

function window(xShape: Shape4D, filterShape: Shape4D, attrs: Attrs, depthwise: boolean): Window {
  const info = tf.backend_util.computeConv2DInfo(
    xShape,
    filterShape,
    attrs.strides,
    attrs.dilations ?? 1,
    attrs.pad,
    attrs.dimRoundingMode,
    depthwise,
  );
  const taps = [];
  for (let row = 0; row < info.filterHeight; row++)
    for (let column = 0; column < info.filterWidth; column++) taps.push({ row, column });
  return { info, taps };
}

/** The input as each tap sees it: [N, outH, outW, C] for every tap. */
function* tapInputs(x: tf.Tensor4D, { info, taps }: Window): Generator<tf.Tensor4D> {
  const { strideHeight: sh, strideWidth: sw, outHeight, outWidth, padInfo } = info;
  const spanH = (outHeight - 1) * sh + 1;
  const spanW = (outWidth - 1) * sw + 1;
  const below = Math.max(0, spanH + info.filterHeight - 1 - x.shape[1] - padInfo.top);
  const right = Math.max(0, spanW + info.filterWidth - 1 - x.shape[2] - padInfo.left);
  const padded = tf.pad(x, [
    [0, 0],
    [padInfo.top, below],
    [padInfo.left, right],
    [0, 0],
  ]);
  for (const { row, column } of taps)
    yield tf.stridedSlice(
      padded,
      [0, row, column, 0],
      [x.shape[0], row + spanH, column + spanW, x.shape[3]],
      [1, sh, sw, 1],
    ) as tf.Tensor4D;
}

/** Spreads a tap's gradient [N, outH, outW, C] back over the input's positions. */
function scatter(
  grad: tf.Tensor4D,
  row: number,
  column: number,
  info: tf.backend_util.Conv2DInfo,
): tf.Tensor4D {
  const [n, h, w, c] = grad.shape;
  const { strideHeight: sh, strideWidth: sw, padInfo, inHeight, inWidth } = info;
  const apart = tf.reshape(
    tf.pad(tf.reshape(grad, [n, h, 1, w, c]), [
      [0, 0],
      [0, 0],
      [0, sh - 1],
      [0, 0],
      [0, 0],
    ]),
    [n, h * sh, w, 1, c],
  );
  const spread = tf.reshape(
    tf.pad(apart, [
      [0, 0],
      [0, 0],
      [0, 0],
      [0, sw - 1],
      [0, 0],
    ]),
    [n, h * sh, w * sw, c],
  );
  const bottom = Math.max(0, padInfo.top + inHeight - row - h * sh);
  const right = Math.max(0, padInfo.left + inWidth - column - w * sw);
  const placed = tf.pad(spread, [
    [0, 0],
    [row, bottom],
    [column, right],
    [0, 0],
  ]) as tf.Tensor4D;
  return tf.slice(placed, [0, padInfo.top, padInfo.left, 0], [n, inHeight, inWidth, c]);
}

function convBackpropFilter(x: tf.Tensor4D, dy: tf.Tensor4D, filterShape: Shape4D, attrs: Attrs): tf.Tensor {
  const win = window(x.shape, filterShape, attrs, false);
  const rows = dy.size / filterShape[3];
  const dyFlat = tf.reshape(dy, [rows, filterShape[3]]);
  const taps = [...tapInputs(x, win)].map((view) =>
    tf.matMul(tf.reshape(view, [rows, filterShape[2]]), dyFlat, true),
  );
  return tf.reshape(tf.stack(taps), filterShape);
}

function depthwiseBackpropFilter(
  x: tf.Tensor4D,
  dy: tf.Tensor4D,
  filterShape: Shape4D,
  attrs: Attrs,
): tf.Tensor {
  const win = window(x.shape, filterShape, attrs, true);
  const [channels, multiplier] = [filterShape[2], filterShape[3]];
  const rows = dy.size / (channels * multiplier);
  const grad = tf.reshape(dy, [rows, channels, multiplier]);
  const taps = [...tapInputs(x, win)].map((view) =>
    tf.sum(tf.mul(tf.reshape(view, [rows, channels, 1]), grad), 0),
  );
  return tf.reshape(tf.stack(taps), filterShape);
}

function depthwiseBackpropInput(
  xShape: Shape4D,
  dy: tf.Tensor4D,
  filter: tf.Tensor4D,
  attrs: Attrs,
): tf.Tensor {
  const { info, taps } = window(xShape, filter.shape, attrs, true);
  const [channels, multiplier] = [filter.shape[2], filter.shape[3]];
  const grad = tf.reshape(dy, [-1, channels, multiplier]);
  const parts = taps.map(({ row, column }) => {
    const weights = tf.reshape(tf.slice(filter, [row, column, 0, 0], [1, 1, channels, multiplier]), [
      channels,
      multiplier,
    ]);
    const product = tf.reshape(tf.sum(tf.mul(grad, weights), 2), [
      dy.shape[0],
      dy.shape[1],
      dy.shape[2],
      channels,
    ]);
    return scatter(product as tf.Tensor4D, row, column, info);
  });
  return tf.addN(parts);
}

/** A kernel whose body is ordinary ops on tensors that share the inputs' data. */
function register(
  name: string,
  body: (inputs: tf.NamedTensorMap, attrs: Record<string, unknown>) => tf.Tensor,
): void {
  tf.registerKernel({
    kernelName: name,
    backendName: 'wasm',
    kernelFunc: ({ inputs, attrs }) =>
      tf.tidy(() => body(inputs as unknown as tf.NamedTensorMap, (attrs ?? {}) as Record<string, unknown>)),
  });
}

/** Registers the composed gradients for every one that the wasm backend does not have. */
export function registerComposed(): void {
  const missing = (name: string) => tf.getKernel(name, 'wasm') === undefined;
  if (missing('Conv2DBackpropFilter'))
    register('Conv2DBackpropFilter', ({ x, dy }, attrs) =>
      convBackpropFilter(
        x as tf.Tensor4D,
        dy as tf.Tensor4D,
        attrs['filterShape'] as Shape4D,
        attrs as unknown as Attrs,
      ),
    );
  if (missing('DepthwiseConv2dNativeBackpropFilter'))
    register('DepthwiseConv2dNativeBackpropFilter', ({ x, dy }, attrs) =>
      depthwiseBackpropFilter(
        x as tf.Tensor4D,
        dy as tf.Tensor4D,
        attrs['filterShape'] as Shape4D,
        attrs as unknown as Attrs,
      ),
    );
  if (missing('DepthwiseConv2dNativeBackpropInput'))
    register('DepthwiseConv2dNativeBackpropInput', ({ dy, filter }, attrs) =>
      depthwiseBackpropInput(
        attrs['inputShape'] as Shape4D,
        dy as tf.Tensor4D,
        filter as tf.Tensor4D,
        attrs as unknown as Attrs,
      ),
    );
}
