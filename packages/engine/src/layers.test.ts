import { beforeAll, describe, expect, test } from 'vitest';
import { Rng } from '@ntaa/random';
import { initEngine, layers, memory, native, place, tf, type Buffer, type Heap } from './index.js';
import type { Activation } from './ops.js';
import { random } from './probe.js';
import * as reference from './reference.js';

let heap: Heap;
beforeAll(async () => {
  await initEngine('wasm');
  heap = native()!;
});

const ACTIVATIONS = ['linear', 'relu', 'hswish'] as const;
const EPSILON = 1e-5;

/** Runs `f` with these values in the heap (and room for `results` more each) and returns the results. */
function onHeap(inputs: Float32Array[], results: number[], f: (...at: number[]) => void): Float32Array[] {
  const given = inputs.map((values) => tf.tensor1d(values));
  const made = results.map((size) => tf.fill([size], NaN));
  f(...[...given, ...made].map((tensor) => heap.pointer(tensor)));
  const values = made.map((tensor) => Float32Array.from(tensor.dataSync()));
  tf.dispose([...given, ...made]);
  return values;
}

function expectClose(actual: Float32Array, expected: ArrayLike<number>, limit: number, what: string): void {
  expect(actual.length, what).toBe(expected.length);
  const scale = Array.from(expected).reduce((most, value) => Math.max(most, Math.abs(value)), 1e-2);
  const errors = Array.from(actual, (value, i) => Math.abs(value - expected[i]!) / scale);
  const worst = errors.findIndex((error) => !(error < limit));
  expect(errors[worst] ?? 0, `${what} ${worst}`).toBeLessThan(limit);
}

describe.each(ACTIVATIONS)('layers that normalise what they read: %s', (activation: Activation) => {
  test.each([
    [5, 1],
    [3, 2],
    [7, 1],
  ])('depthwise %dx, stride %d, and its gradients', (k, stride) => {
    for (const channels of [1, 4, 6, 16, 21]) {
      const rng = new Rng('depthwise', activation, k, channels);
      const [height, width, batch, pad] = [9, 7, 3, k >> 1];
      const [outHeight, outWidth] = [Math.ceil(height / stride), Math.ceil(width / stride)];
      const shape = {
        ...{ batch, height, width, channels, outHeight, outWidth, outChannels: channels },
        ...{ filterHeight: k, filterWidth: k, stride, top: pad, left: pad },
      };
      const x = random(rng, batch * height * width * channels);
      const [scale, shift, filter] = [channels, channels, k * k * channels].map((n) => random(rng, n, 0.5));
      const dy = random(rng, batch * outHeight * outWidth * channels);
      const normal = reference.affine(x, scale!, shift!, activation, x).y;
      const expected = reference.convolution(
        {
          ...{ batch, height, width, inChannels: channels, outChannels: channels, kernel: k, stride },
          ...{ top: pad, left: pad, outHeight, outWidth, depthwise: true },
        },
        ...([normal, filter!, dy] as const),
      );
      const rows: number[] = [];
      const [y, dx, dfilter] = onHeap(
        [x, scale!, shift!, filter!, dy],
        [dy.length, x.length, filter!.length],
        (xAt, scaleAt, shiftAt, filterAt, dyAt, yAt, dxAt, dfilterAt) => {
          const norm = { scale: scaleAt!, shift: shiftAt!, activation: layers.ACTIVATIONS[activation] };
          const taps = { at: filterAt!, stride: channels };
          layers.depthwise(heap, shape, { x: xAt!, norm, filter: taps, y: yAt! }, (row, count, at) => {
            expect(at).toBe(yAt! + 4 * row * channels);
            rows.push(row, row + count);
          });
          heap.zero(dfilterAt!, 4 * k * k * channels);
          layers.depthwiseBack(heap, shape, {
            dy: layers.plain(dyAt!, channels),
            filter: { x: xAt!, norm, to: { at: dfilterAt!, stride: channels } },
            input: { filter: taps, dx: dxAt! },
          });
        },
      );
      expectClose(y!, expected.y, 3e-6, 'y');
      expectClose(dx!, expected.dx, 3e-6, 'dx');
      expectClose(dfilter!, expected.dfilter, 3e-6, 'dfilter');
      // Every row is reported once, in order.
      expect([rows[0], rows.at(-1)]).toEqual([0, batch * outHeight * outWidth]);
      for (let i = 1; i + 1 < rows.length; i += 2) expect(rows[i + 1]).toBe(rows[i]);
    }
  });

  test('batch norm in parts: statistics as rows are written, sums as gradients are', () => {
    for (const channels of [1, 3, 8, 16, 23]) {
      const rng = new Rng('parts', activation, channels);
      const M = 700;
      // Far from zero, and rows that have little in common with the first ones.
      const x = random(rng, M * channels, 50).map((v, i) => (i < 64 * channels ? 40 : v));
      const [gamma, beta] = [random(rng, channels, 1), random(rng, channels)];
      const dy = random(rng, M * channels);
      const expected = reference.batchNorm(x, gamma, beta, { epsilon: EPSILON, activation }, dy);
      const C = channels;
      const [areas, d, dgamma, dbeta, dx] = onHeap(
        [x, gamma, beta, dy],
        [layers.normBytes(C) / 4 + 2, M * C, C, C, M * C],
        (xAt, gammaAt, betaAt, dyAt, areasAt, dAt, dgammaAt, dbetaAt, dxAt) => {
          const norm = layers.normAreas(areasAt!, C, activation);
          const collect = layers.collectMoments(heap, norm, C);
          for (const [row, rows] of [
            [0, 64],
            [64, 1],
            [65, 500],
            [565, 135],
          ])
            collect(row!, rows!, xAt! + 4 * row! * C);
          layers.finishMoments(heap, norm, M, C);
          layers.setScale(heap, norm, { gamma: gammaAt!, beta: betaAt!, epsilon: EPSILON, C });
          heap.zero(norm.totals, 16 * C);
          for (const at of [dgammaAt!, dbetaAt!]) heap.zero(at, 4 * C);
          for (const [row, rows] of [
            [0, 333],
            [333, 367],
          ]) {
            const from = 4 * row! * C;
            heap.kernels.affineGradSums(
              ...[xAt! + from, dyAt! + from, dAt! + from, rows!, C, norm.scale, norm.shift, norm.mean],
              ...[norm.totals, norm.activation],
            );
          }
          heap.kernels.normGrad(
            ...[norm.totals, M, C, gammaAt!, norm.mean, norm.variance, EPSILON, dgammaAt!, dbetaAt!],
            ...[norm.slope, norm.offset],
          );
          layers.normGradient(heap, { x: xAt!, d: dAt!, C }, norm)(0, M, dxAt!);
        },
      );
      const at = (area: number) => areas!.subarray(area / 4, area / 4 + C);
      const { mean, variance } = layers.normAreas(0, C, activation);
      expectClose(at(mean), expected.mean, 1e-6, 'mean');
      expectClose(at(variance), expected.variance, 2e-5, 'variance');
      expectClose(dgamma!, expected.dgamma, 1e-4, 'dgamma');
      expectClose(dbeta!, expected.dbeta, 1e-4, 'dbeta');
      expectClose(dx!, expected.dx, 1e-4, 'dx');
      expect(d!.every(Number.isFinite)).toBe(true);
    }
  });
});

test('a depthwise convolution of images larger than a band of rows, and its gradients', () => {
  for (const [k, stride] of [
    [3, 1],
    [5, 2],
    [7, 1],
  ] as const) {
    const rng = new Rng('bands', k);
    const [height, width, batch, channels, pad] = [37, 41, 2, 42, k >> 1];
    const [outHeight, outWidth] = [Math.ceil(height / stride), Math.ceil(width / stride)];
    const shape = {
      ...{ batch, height, width, channels, outHeight, outWidth, outChannels: channels },
      ...{ filterHeight: k, filterWidth: k, stride, top: pad, left: pad },
    };
    const x = random(rng, batch * height * width * channels);
    const filter = random(rng, k * k * channels);
    const dy = random(rng, batch * outHeight * outWidth * channels);
    const expected = reference.convolution(
      {
        ...{ batch, height, width, inChannels: channels, outChannels: channels, kernel: k, stride },
        ...{ top: pad, left: pad, outHeight, outWidth, depthwise: true },
      },
      ...([x, filter, dy] as const),
    );
    const [y, dx, dfilter] = onHeap(
      [x, filter, dy],
      [dy.length, x.length, filter.length],
      (xAt, filterAt, dyAt, yAt, dxAt, dfilterAt) => {
        const taps = { at: filterAt!, stride: channels };
        layers.depthwise(heap, shape, { x: xAt!, filter: taps, y: yAt! });
        heap.zero(dfilterAt!, 4 * filter.length);
        layers.depthwiseBack(heap, shape, {
          dy: layers.plain(dyAt!, channels),
          filter: { x: xAt!, to: { at: dfilterAt!, stride: channels } },
          input: { filter: taps, dx: dxAt! },
        });
      },
    );
    expectClose(y!, expected.y, 3e-6, `y ${k}`);
    expectClose(dx!, expected.dx, 3e-6, `dx ${k}`);
    expectClose(dfilter!, expected.dfilter, 1e-5, `dfilter ${k}`);
  }
});

describe.each(ACTIVATIONS)('layers with batch norm in their weights: %s', (activation: Activation) => {
  test.each([1, 3, 8, 13, 40])('a product of %d columns, and one added to what is there', (N) => {
    for (const [M, K] of [
      [1, 5],
      [7, 9],
      [700, 27],
    ] as const) {
      const rng = new Rng('folded', activation, N, M);
      const [a, b, rest] = [random(rng, M * K), random(rng, K * N), random(rng, M * N)];
      const [scale, shift] = [random(rng, N, 2), random(rng, N, 2)];
      const product = reference.matMul(a, b, [M, K, N], false, false);
      const [y, sum] = onHeap(
        [a, b, scale, shift, rest],
        [M * N, M * N],
        (aAt, bAt, scaleAt, shiftAt, restAt, yAt, sumAt) => {
          const panels = heap.arena(layers.panelBytes(K, N));
          layers.packPanels(heap, { at: bAt!, rowStride: N, columnStride: 1 }, panels, K, N, scaleAt);
          const norm = { scale: scaleAt!, shift: shiftAt!, activation: layers.ACTIVATIONS[activation] };
          const given = { a: layers.plain(aAt!, K), panels, M, N, K };
          layers.multiply(heap, { ...given, y: yAt!, finish: layers.folded(norm) });
          heap.floatsAt(sumAt!, M * N).set(heap.floatsAt(restAt!, M * N));
          layers.multiply(heap, { ...given, y: sumAt!, finish: layers.foldedSum(norm) });
        },
      );
      expectClose(y!, reference.affine(product, scale, shift, activation, product).y, 3e-6, 'y');
      const linear = reference.affine(product, scale, shift, 'linear', product).y;
      expectClose(
        sum!,
        linear.map((v, i) => v + rest[i]!),
        3e-6,
        'sum',
      );
    }
  });

  test.each([
    [3, 1, 9, 7],
    [5, 2, 8, 8],
    [3, 2, 5, 4],
    [7, 1, 3, 3],
    [5, 1, 4, 2],
    [3, 1, 1, 1],
  ])(
    'a product into what a %dx depthwise layer of stride %d reads, of %d x %d pixels',
    (k, stride, height, width) => {
      for (const channels of [1, 4, 6, 16, 21]) {
        const rng = new Rng('padded', activation, k, channels);
        const [batch, K, pad] = [3, 5, k >> 1];
        const [outHeight, outWidth] = [Math.ceil(height / stride), Math.ceil(width / stride)];
        const shape = {
          ...{ batch, height, width, channels, outHeight, outWidth, outChannels: channels },
          ...{ filterHeight: k, filterWidth: k, stride, top: pad, left: pad },
        };
        const M = batch * height * width;
        const [a, b, filter] = [random(rng, M * K), random(rng, K * channels), random(rng, k * k * channels)];
        const [scale, shift, scale2, shift2] = [1, 2, 3, 4].map(() => random(rng, channels, 1)) as [
          ...[Float32Array, Float32Array, Float32Array, Float32Array],
        ];
        const product = reference.matMul(a, b, [M, K, channels], false, false);
        const wide = reference.affine(product, scale, shift, activation, product).y;
        const outputs = batch * outHeight * outWidth * channels;
        const { y: plain } = reference.convolution(
          {
            ...{ batch, height, width, inChannels: channels, outChannels: channels, kernel: k, stride },
            ...{ top: pad, left: pad, outHeight, outWidth, depthwise: true },
          },
          ...([wide, filter, new Float32Array(outputs)] as const),
        );
        const expected = reference.affine(plain, scale2, shift2, activation, plain).y;
        const [padded, unpadded] = onHeap(
          [a, b, filter, scale, shift, scale2, shift2, Float32Array.from(wide)],
          [outputs, outputs, layers.paddedBytes(shape) / 4],
          (aAt, bAt, filterAt, scaleAt, shiftAt, scale2At, shift2At, wideAt, yAt, y2At, x) => {
            const panels = heap.arena(layers.panelBytes(K, channels) + layers.tapBytes(k, channels));
            const tapsAt = panels + layers.panelBytes(K, channels);
            const act = layers.ACTIVATIONS[activation];
            layers.packPanels(
              heap,
              { at: bAt!, rowStride: channels, columnStride: 1 },
              panels,
              K,
              channels,
              scaleAt,
            );
            layers.packTaps(heap, { at: filterAt!, stride: channels }, tapsAt, shape, scale2At);
            const finish = { bias: shiftAt!, activation: act };
            const given = { a: layers.plain(aAt!, K), panels, y: x!, N: channels, K, finish };
            layers.multiplyPadded(heap, given, shape);
            const after = { taps: tapsAt, finish: { bias: shift2At!, activation: act } };
            layers.depthwisePadded(heap, shape, { x: x!, y: yAt!, ...after });
            layers.depthwise(heap, shape, { x: wideAt!, y: y2At!, ...after });
          },
        );
        expectClose(padded!, expected, 5e-6, 'padded');
        expectClose(unpadded!, expected, 5e-6, 'unpadded');
      }
    },
  );
});

test('products of strided matrices, added to gradients, block after block', () => {
  for (const [M, N, K, stride] of [
    [5, 3, 2, 4],
    [700, 13, 9, 20],
    [1000, 40, 70, 64],
  ] as const) {
    const rng = new Rng('product', M);
    const [a, b, dy] = [random(rng, M * K), random(rng, K * stride), random(rng, M * N)];
    const narrow = Float32Array.from({ length: K * N }, (_, i) => b[Math.floor(i / N) * stride + (i % N)]!);
    const [y, da, db] = onHeap([a, b, dy], [M * N, M * K, K * stride], (aAt, bAt, dyAt, yAt, daAt, dbAt) => {
      const panels = heap.arena(layers.panelBytes(K, N) + layers.panelBytes(N, K));
      layers.packPanels(heap, { at: bAt!, rowStride: stride, columnStride: 1 }, panels, K, N);
      layers.multiply(heap, { a: layers.plain(aAt!, K), panels, y: yAt!, M, N, K });
      layers.packPanels(heap, { at: bAt!, rowStride: 1, columnStride: stride }, panels, N, K);
      heap.floatsAt(dbAt!, K * stride).fill(1);
      layers.multiplyBack(heap, {
        ...{ M, N, K, dy: layers.plain(dyAt!, N) },
        filter: { a: layers.plain(aAt!, K), at: dbAt!, stride },
        input: { panels, to: layers.plain(daAt!, K) },
      });
    });
    expectClose(y!, reference.matMul(a, narrow, [M, K, N], false, false), 3e-6, 'y');
    expectClose(da!, reference.matMul(dy, narrow, [M, N, K], false, true), 3e-6, 'da');
    const sums = reference.matMul(a, dy, [K, M, N], true, false);
    const expected = Float64Array.from({ length: K * stride }, (_, i) =>
      i % stride < N ? 1 + sums[Math.floor(i / stride) * N + (i % stride)]! : 1,
    );
    expectClose(db!, expected, 1e-5, 'db');
  }
});

test('the centre of a kernel and back', () => {
  const [size, C, stride] = [5, 3, 4];
  const kernel = Float32Array.from({ length: size * size * stride }, (_, i) => i);
  const [centre, back] = onHeap([kernel], [9 * C, kernel.length], (kernelAt, centreAt, backAt) => {
    heap.kernels.crop(kernelAt!, centreAt!, size, C, stride);
    heap.floatsAt(backAt!, kernel.length).fill(1);
    heap.kernels.cropBack(centreAt!, backAt!, size, C, stride);
  });
  const taps = [6, 7, 8, 11, 12, 13, 16, 17, 18];
  expect([...centre!]).toEqual(taps.flatMap((tap) => [0, 1, 2].map((c) => tap * stride + c)));
  kernel.forEach((value, i) => {
    const inside = taps.includes(Math.floor(i / stride)) && i % stride < C;
    expect(back![i]).toBe(inside ? value + 1 : 1);
  });
});

test('buffers that are needed together never overlap, and others share', () => {
  const rng = new Rng('place');
  for (let run = 0; run < 200; run++) {
    const buffers = Array.from({ length: 1 + rng.int(30) }, (): Buffer => {
      const first = rng.int(20);
      return { bytes: 1 + rng.int(1000), first, last: first + rng.int(6), offset: -1 };
    });
    const total = place(buffers);
    for (const [i, a] of buffers.entries()) {
      expect(a.offset % 64).toBe(0);
      expect(a.offset + a.bytes).toBeLessThanOrEqual(total);
      for (const b of buffers.slice(0, i)) {
        const together = a.first <= b.last && b.first <= a.last;
        const apart = a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
        expect(!together || apart).toBe(true);
      }
    }
  }
  const chain = Array.from({ length: 10 }, (_, i): Buffer => ({
    bytes: 640,
    first: i,
    last: i + 1,
    offset: 0,
  }));
  expect(place(chain)).toBe(1280);
});

test('leaves no tensor behind', () => {
  expect(memory().tensors).toBe(0);
});
