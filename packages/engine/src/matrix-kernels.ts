/** Matrix products, copies without copying, and pooling on our kernels. */
import * as tf from '@tensorflow/tfjs-core';
import type { Heap } from './heap.js';
import type { Override } from './install.js';
import { multiply, multiplyBack, packPanels, panelBytes, plain } from './layers.js';

interface MatMulAttrs {
  transposeA?: boolean;
  transposeB?: boolean;
}

/** [batch, rows, columns] products with equal batch sizes, any one factor transposed. */
function matMul(
  heap: Heap,
  a: tf.TensorInfo,
  b: tf.TensorInfo,
  attrs: MatMulAttrs,
): tf.TensorInfo | undefined {
  const { transposeA = false, transposeB = false } = attrs;
  if (a.dtype !== 'float32' || b.dtype !== 'float32' || (transposeA && transposeB)) return undefined;
  const lead = a.shape.slice(0, -2);
  if (lead.join() !== b.shape.slice(0, -2).join()) return undefined;
  const [a0, a1] = a.shape.slice(-2) as [number, number];
  const [b0, b1] = b.shape.slice(-2) as [number, number];
  const [M, K, N] = [transposeA ? a1 : a0, transposeA ? a0 : a1, transposeB ? b0 : b1];
  if (K === 0 || K !== (transposeB ? b1 : b0)) return undefined;
  const y = heap.output([...lead, M, N]);
  const batch = tf.util.sizeFromShape(lead);
  const [pa, pb, py] = [heap.pointer(a), heap.pointer(b), heap.pointer(y)];
  const panels = transposeA ? 0 : heap.arena(panelBytes(K, N));
  if (transposeA) heap.zero(py, 4 * batch * M * N);
  for (let i = 0; i < batch; i++) {
    const [at, bt, yt] = [pa + 4 * i * M * K, pb + 4 * i * K * N, py + 4 * i * M * N];
    if (transposeA) {
      const filter = { a: plain(at, M), at: yt, stride: N };
      multiplyBack(heap, { M: K, N, K: M, dy: plain(bt, N), filter });
    } else {
      const [rowStride, columnStride] = transposeB ? [1, K] : [N, 1];
      packPanels(heap, { at: bt, rowStride, columnStride }, panels, K, N);
      multiply(heap, { a: plain(at, K), panels, y: yt, M, N, K });
    }
  }
  return y;
}

/** Mean over height and width: global average pooling. */
function mean(heap: Heap, x: tf.TensorInfo, axis: number[], keepDims: boolean): tf.TensorInfo | undefined {
  const axes = axis.map((a) => (a < 0 ? a + x.shape.length : a)).sort();
  if (x.dtype !== 'float32' || x.shape.length !== 4 || axes.join() !== '1,2') return undefined;
  const [n, h, w, c] = x.shape as [number, number, number, number];
  const y = heap.output(keepDims ? [n, 1, 1, c] : [n, c]);
  heap.kernels.poolMean(heap.pointer(x), heap.pointer(y), n, h * w, c);
  return y;
}

export const matrixOverrides: Override[] = [
  {
    name: 'BatchMatMul',
    run: (heap, { a, b }, attrs) => matMul(heap, a as tf.TensorInfo, b as tf.TensorInfo, attrs),
  },
  { name: 'Identity', run: (heap, { x }) => heap.share(x as tf.TensorInfo) },
  {
    name: 'Mean',
    run: (heap, { x }, { axis, keepDims }) =>
      mean(
        heap,
        x as tf.TensorInfo,
        tf.util.parseAxisParam(axis as number[], (x as tf.TensorInfo).shape),
        keepDims === true,
      ),
  },
];
