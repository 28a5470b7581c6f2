// Depthwise convolutions. Four channels of one image are laid out as a zero-padded plane [rows][pitch][4]; sixteen
// channels (a cache line) are packed together, and everything proceeds in bands of rows, so that what was packed is
// used while it is in the first-level cache.
import { activate, HSWISH, LINEAR, RELU } from './norm';
import { loadPart, madd, storePart, touch } from './simd';

/** Output pixels in a band. */
const BAND: i32 = 64;

/** Without an activation: values as they are. */
const PLAIN: i32 = -1;

// @ts-ignore: decorator
@inline
function normalised(v: v128, scale: v128, shift: v128, act: i32): v128 {
  return act == PLAIN ? v : activate(madd(v, scale, shift), act);
}

// @ts-ignore: decorator
@inline
function packRows(
  image: usize, planes: usize, h0: i32, h1: i32, W: i32, C: i32, c0: i32, pitch: i32, inner: usize, plane: usize,
  scale: usize, shift: usize, act: i32,
): void {
  const step = (<usize>C) << 2, start = image + (<usize>h0) * W * step;
  let out = planes + inner + (((<usize>h0) * pitch) << 4);
  let s0 = f32x4.splat(1), s1 = s0, s2 = s0, s3 = s0, t0 = f32x4.splat(0), t1 = t0, t2 = t0, t3 = t0;
  if (C - c0 >= 16) {
    if (act != PLAIN) {
      const s = scale + (c0 << 2), t = shift + (c0 << 2);
      s0 = v128.load(s), s1 = v128.load(s, 16), s2 = v128.load(s, 32), s3 = v128.load(s, 48);
      t0 = v128.load(t), t1 = v128.load(t, 16), t2 = v128.load(t, 32), t3 = v128.load(t, 48);
    }
    let p = start + (c0 << 2);
    for (let h = h0; h < h1; h++) {
      let q = out, q1 = q + plane, q2 = q1 + plane, q3 = q2 + plane;
      for (let w = 0; w < W; w++) {
        v128.store(q, normalised(v128.load(p), s0, t0, act));
        v128.store(q1, normalised(v128.load(p, 16), s1, t1, act));
        v128.store(q2, normalised(v128.load(p, 32), s2, t2, act));
        v128.store(q3, normalised(v128.load(p, 48), s3, t3, act));
        p += step;
        q += 16;
        q1 += 16;
        q2 += 16;
        q3 += 16;
      }
      out += pitch << 4;
    }
    return;
  }
  for (let c = c0; c < C; c += 4) {
    const lanes = C - c;
    if (act != PLAIN) {
      s0 = loadPart(scale + (c << 2), lanes);
      t0 = loadPart(shift + (c << 2), lanes);
    }
    let p = start + (c << 2), row = out;
    for (let h = h0; h < h1; h++) {
      let q = row;
      for (let w = 0; w < W; w++) {
        v128.store(q, normalised(loadPart(p, lanes), s0, t0, act));
        p += step;
        q += 16;
      }
      row += pitch << 4;
    }
    out += plane;
  }
}

/** Copies rows h0 .. h1-1 of channels c0 .. c0+15 of image[H,W,C] into planes with rows of `pitch` pixels, as
 *  act(value * scale + shift) unless `act` is PLAIN; `inner` is the offset of pixel (0,0) in a plane, `plane` a plane's
 *  size, both in bytes. Borders are left alone. */
function pack(
  image: usize, planes: usize, h0: i32, h1: i32, W: i32, C: i32, c0: i32, pitch: i32, inner: usize, plane: usize,
  scale: usize, shift: usize, act: i32,
): void {
  if (act == PLAIN) packRows(image, planes, h0, h1, W, C, c0, pitch, inner, plane, scale, shift, PLAIN);
  else if (act == LINEAR) packRows(image, planes, h0, h1, W, C, c0, pitch, inner, plane, scale, shift, LINEAR);
  else if (act == RELU) packRows(image, planes, h0, h1, W, C, c0, pitch, inner, plane, scale, shift, RELU);
  else packRows(image, planes, h0, h1, W, C, c0, pitch, inner, plane, scale, shift, HSWISH);
}

/** The first C channels of filter[k,k,ld] to [ceil(C/4)][k*k][4], zero padded. */
export function packTaps(filter: usize, taps: usize, k: i32, C: i32, ld: i32): void {
  for (let c = 0; c < C; c += 4)
    for (let t = 0; t < k * k; t++) {
      v128.store(taps, loadPart(filter + (((<usize>t) * ld + c) << 2), C - c));
      taps += 16;
    }
}

/** The taps that reach input positions of one phase (position + pad modulo the stride): first, first + stride, ... */
// @ts-ignore: decorator
@inline
function firstTap(phase: i32, pad: i32, stride: i32): i32 {
  return (phase + pad) % stride;
}

// @ts-ignore: decorator
@inline
function tapCount(first: i32, k: i32, stride: i32): i32 {
  return max(0, (k - first + stride - 1) / stride);
}

/** As packTaps, but per channel block phase by phase, each turned by half a turn: for the gradient in the input. */
export function packPhases(
  filter: usize, taps: usize, k: i32, C: i32, ld: i32, stride: i32, top: i32, left: i32,
): void {
  for (let c = 0; c < C; c += 4)
    for (let ph = 0; ph < stride; ph++)
      for (let pw = 0; pw < stride; pw++) {
        const i0 = firstTap(ph, top, stride), j0 = firstTap(pw, left, stride);
        const rows = tapCount(i0, k, stride), columns = tapCount(j0, k, stride);
        for (let i = rows - 1; i >= 0; i--)
          for (let j = columns - 1; j >= 0; j--) {
            const tap = (i0 + i * stride) * k + j0 + j * stride;
            v128.store(taps, loadPart(filter + (((<usize>tap) * ld + c) << 2), C - c));
            taps += 16;
          }
      }
}

/** Eight outputs, `step` bytes apart (the last `8 - count` are dropped), of windows S pixels apart. The stride is
 *  carried as the size of a type, so that it is a constant in every address. */
// @ts-ignore: decorator
@inline
function eight<S>(
  p: usize, row: usize, taps: usize, kr: i32, kc: i32, y: usize, step: usize, count: i32, lanes: i32,
): void {
  let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
  for (let i = 0; i < kr; i++) {
    let q = p;
    const end = p + (kc << 4);
    while (q < end) {
      const w = v128.load(taps);
      a0 = madd(v128.load(q), w, a0);
      a1 = madd(v128.load(q, 16 * sizeof<S>()), w, a1);
      a2 = madd(v128.load(q, 32 * sizeof<S>()), w, a2);
      a3 = madd(v128.load(q, 48 * sizeof<S>()), w, a3);
      a4 = madd(v128.load(q, 64 * sizeof<S>()), w, a4);
      a5 = madd(v128.load(q, 80 * sizeof<S>()), w, a5);
      a6 = madd(v128.load(q, 96 * sizeof<S>()), w, a6);
      a7 = madd(v128.load(q, 112 * sizeof<S>()), w, a7);
      taps += 16;
      q += 16;
    }
    p += row;
  }
  storePart(y, a0, lanes);
  if (count > 1) storePart(y + step, a1, lanes);
  if (count > 2) storePart(y + 2 * step, a2, lanes);
  if (count > 3) storePart(y + 3 * step, a3, lanes);
  if (count > 4) storePart(y + 4 * step, a4, lanes);
  if (count > 5) storePart(y + 5 * step, a5, lanes);
  if (count > 6) storePart(y + 6 * step, a6, lanes);
  if (count > 7) storePart(y + 7 * step, a7, lanes);
}

// @ts-ignore: decorator
@inline
function four<S>(
  p: usize, row: usize, taps: usize, kr: i32, kc: i32, y: usize, step: usize, count: i32, lanes: i32,
): void {
  let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0;
  for (let i = 0; i < kr; i++) {
    let q = p;
    const end = p + (kc << 4);
    while (q < end) {
      const w = v128.load(taps);
      a0 = madd(v128.load(q), w, a0);
      a1 = madd(v128.load(q, 16 * sizeof<S>()), w, a1);
      a2 = madd(v128.load(q, 32 * sizeof<S>()), w, a2);
      a3 = madd(v128.load(q, 48 * sizeof<S>()), w, a3);
      taps += 16;
      q += 16;
    }
    p += row;
  }
  storePart(y, a0, lanes);
  if (count > 1) storePart(y + step, a1, lanes);
  if (count > 2) storePart(y + 2 * step, a2, lanes);
  if (count > 3) storePart(y + 3 * step, a3, lanes);
}

/** `rows` x `width` outputs: windows of kr x kc taps on a plane whose rows are `row` bytes; outputs are `step` bytes
 *  apart in a row, rows `yRow` bytes. */
// @ts-ignore: decorator
@inline
function correlate<S>(
  p: usize, row: usize, taps: usize, kr: i32, kc: i32, y: usize, step: usize, yRow: usize, rows: i32, width: i32,
  lanes: i32,
): void {
  for (let r = 0; r < rows; r++) {
    let q = p, out = y, w = 0;
    while (width - w > 4) {
      eight<S>(q, row, taps, kr, kc, out, step, width - w, lanes);
      w += 8;
      q += 128 * sizeof<S>();
      out += 8 * step;
    }
    if (w < width) four<S>(q, row, taps, kr, kc, out, step, width - w, lanes);
    p += row * sizeof<S>();
    y += yRow;
  }
}

/** y[N,OH,OW,C] = act(x[N,H,W,C] * scale + shift) correlated with packed taps, at stride 1 or 2.
 *  planes: 4 zeroed planes of rows x pitch pixels, plus room behind for the dropped outputs' windows. */
export function depthwise(
  x: usize, taps: usize, y: usize, planes: usize, N: i32, H: i32, W: i32, C: i32, OH: i32, OW: i32,
  k: i32, stride: i32, top: i32, left: i32, rows: i32, pitch: i32, scale: usize, shift: usize, act: i32,
): void {
  const row = (<usize>pitch) << 4, plane = row * rows, inner = ((<usize>top) * pitch + left) << 4;
  const step = (<usize>C) << 2, yRow = step * OW, band = max(1, BAND / OW);
  for (let n = 0; n < N; n++) {
    touch(x, (<usize>H) * W * step, planes + 4 * plane);
    for (let c0 = 0; c0 < C; c0 += 16) {
      let packed = 0;
      for (let o = 0; o < OH; o += band) {
        const count = min(band, OH - o), need = max(packed, min(H, (o + count - 1) * stride + k - top));
        pack(x, planes, packed, need, W, C, c0, pitch, inner, plane, scale, shift, act);
        packed = need;
        let p = planes + (<usize>(o * stride)) * row;
        for (let c = c0; c < min(C, c0 + 16); c += 4) {
          const t = taps + (((<usize>c) * k * k) << 2), out = y + (<usize>o) * yRow + (c << 2);
          if (stride == 1) correlate<u8>(p, row, t, k, k, out, step, yRow, count, OW, C - c);
          else correlate<u16>(p, row, t, k, k, out, step, yRow, count, OW, C - c);
          p += plane;
        }
      }
    }
    x += (<usize>H) * W * step;
    y += (<usize>OH) * yRow;
  }
}

/** dx[N,H,W,C] at any stride: input positions of one phase see the same taps, on neighbouring values of dy.
 *  planes: as above, of dy with `border` zero pixels above and to the left. */
export function depthwiseBackInput(
  dy: usize, taps: usize, dx: usize, planes: usize, N: i32, H: i32, W: i32, C: i32, OH: i32, OW: i32,
  k: i32, stride: i32, top: i32, left: i32, rows: i32, pitch: i32, border: i32,
): void {
  const row = (<usize>pitch) << 4, plane = row * rows, inner = ((<usize>border) * pitch + border) << 4;
  const step = (<usize>C) << 2, dxRow = step * W, band = max(1, BAND / W);
  const reach = (top + stride) / stride + 1;
  for (let n = 0; n < N; n++) {
    touch(dy, (<usize>OH) * OW * step, planes + 4 * plane);
    for (let c0 = 0; c0 < C; c0 += 16) {
      let packed = 0;
      // Rows a of one band are input rows a * stride + phase.
      for (let a = 0; a * stride < H; a += band) {
        const need = max(packed, min(OH, a + band + reach));
        pack(dy, planes, packed, need, OW, C, c0, pitch, inner, plane, 0, 0, PLAIN);
        packed = need;
        for (let c = c0; c < min(C, c0 + 16); c += 4) {
          let t = taps + (((<usize>c) * k * k) << 2);
          const p = planes + (<usize>((c - c0) >> 2)) * plane;
          for (let ph = 0; ph < stride; ph++)
            for (let pw = 0; pw < stride; pw++) {
              const i0 = firstTap(ph, top, stride), j0 = firstTap(pw, left, stride);
              const kr = tapCount(i0, k, stride), kc = tapCount(j0, k, stride);
              const r0 = border + a + (ph + top - i0) / stride - (kr - 1);
              const s0 = border + (pw + left - j0) / stride - (kc - 1);
              const height = min(band, (H - ph + stride - 1) / stride - a), width = (W - pw + stride - 1) / stride;
              const out = dx + (<usize>(a * stride + ph)) * dxRow + (<usize>pw) * step + (c << 2);
              correlate<u8>(
                p + (<usize>r0) * row + (s0 << 4), row, t, kr, kc, out, step * stride, dxRow * stride, height, width,
                C - c,
              );
              t += (kr * kc) << 4;
            }
        }
      }
    }
    dy += (<usize>OH) * OW * step;
    dx += (<usize>H) * dxRow;
  }
}

/** Adds to the sums of a 3x3 filter: nine accumulators hide the latency of the additions. */
function taps3(plane: usize, dy: usize, sums: usize, rows: i32, OW: i32, row: usize, stride: i32): void {
  const step = (<usize>stride) << 4;
  let s0 = v128.load(sums), s1 = v128.load(sums, 16), s2 = v128.load(sums, 32), s3 = v128.load(sums, 48);
  let s4 = v128.load(sums, 64), s5 = v128.load(sums, 80), s6 = v128.load(sums, 96), s7 = v128.load(sums, 112);
  let s8 = v128.load(sums, 128);
  for (let r = 0; r < rows; r++) {
    let p = plane, q = p + row, u = q + row;
    const end = dy + (OW << 4);
    while (dy < end) {
      const d = v128.load(dy);
      s0 = madd(v128.load(p), d, s0);
      s1 = madd(v128.load(p, 16), d, s1);
      s2 = madd(v128.load(p, 32), d, s2);
      s3 = madd(v128.load(q), d, s3);
      s4 = madd(v128.load(q, 16), d, s4);
      s5 = madd(v128.load(q, 32), d, s5);
      s6 = madd(v128.load(u), d, s6);
      s7 = madd(v128.load(u, 16), d, s7);
      s8 = madd(v128.load(u, 32), d, s8);
      p += step;
      q += step;
      u += step;
      dy += 16;
    }
    plane += row * stride;
  }
  v128.store(sums, s0);
  v128.store(sums, s1, 16);
  v128.store(sums, s2, 32);
  v128.store(sums, s3, 48);
  v128.store(sums, s4, 64);
  v128.store(sums, s5, 80);
  v128.store(sums, s6, 96);
  v128.store(sums, s7, 112);
  v128.store(sums, s8, 128);
}

/** Adds to the sums of up to 7 neighbouring taps of one filter row; the plane starts at the first tap. */
function tapsRow(plane: usize, dy: usize, sums: usize, rows: i32, OW: i32, row: usize, stride: i32, count: i32): void {
  const step = (<usize>stride) << 4;
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0;
  for (let r = 0; r < rows; r++) {
    let p = plane;
    const end = dy + (OW << 4);
    if (count > 5)
      while (dy < end) {
        const d = v128.load(dy);
        s0 = madd(v128.load(p), d, s0);
        s1 = madd(v128.load(p, 16), d, s1);
        s2 = madd(v128.load(p, 32), d, s2);
        s3 = madd(v128.load(p, 48), d, s3);
        s4 = madd(v128.load(p, 64), d, s4);
        s5 = madd(v128.load(p, 80), d, s5);
        s6 = madd(v128.load(p, 96), d, s6);
        p += step;
        dy += 16;
      }
    else
      while (dy < end) {
        const d = v128.load(dy);
        s0 = madd(v128.load(p), d, s0);
        s1 = madd(v128.load(p, 16), d, s1);
        s2 = madd(v128.load(p, 32), d, s2);
        s3 = madd(v128.load(p, 48), d, s3);
        s4 = madd(v128.load(p, 64), d, s4);
        p += step;
        dy += 16;
      }
    plane += row * stride;
  }
  v128.store(sums, f32x4.add(v128.load(sums), s0));
  if (count > 1) v128.store(sums, f32x4.add(v128.load(sums, 16), s1), 16);
  if (count > 2) v128.store(sums, f32x4.add(v128.load(sums, 32), s2), 32);
  if (count > 3) v128.store(sums, f32x4.add(v128.load(sums, 48), s3), 48);
  if (count > 4) v128.store(sums, f32x4.add(v128.load(sums, 64), s4), 64);
  if (count > 5) v128.store(sums, f32x4.add(v128.load(sums, 80), s5), 80);
  if (count > 6) v128.store(sums, f32x4.add(v128.load(sums, 96), s6), 96);
}

/** Adds to the sums of a filter gradient: ceil(C/4) * k*k vectors. planes, scale, shift and act: as for depthwise();
 *  grads: room for 4 bands of dy. */
export function depthwiseBackFilter(
  x: usize, dy: usize, sums: usize, planes: usize, grads: usize, N: i32, H: i32, W: i32, C: i32,
  OH: i32, OW: i32, k: i32, stride: i32, top: i32, left: i32, rows: i32, pitch: i32, scale: usize, shift: usize, act: i32,
): void {
  const row = (<usize>pitch) << 4, plane = row * rows, inner = ((<usize>top) * pitch + left) << 4, taps = k * k;
  const band = max(1, BAND / OW), small = ((<usize>band) * OW) << 4, image = (<usize>OH) * OW * C * 4;
  for (let n = 0; n < N; n++) {
    touch(x, (<usize>H) * W * C * 4, planes + 4 * plane);
    touch(dy, image, planes + 4 * plane);
    for (let c0 = 0; c0 < C; c0 += 16) {
      let packed = 0;
      for (let o = 0; o < OH; o += band) {
        const count = min(band, OH - o), need = max(packed, min(H, (o + count - 1) * stride + k - top));
        pack(x, planes, packed, need, W, C, c0, pitch, inner, plane, scale, shift, act);
        packed = need;
        pack(dy + (<usize>o) * OW * C * 4, grads, 0, count, OW, C, c0, OW, 0, small, 0, 0, PLAIN);
        let p = planes + (<usize>(o * stride)) * row, d = grads;
        for (let c = c0; c < min(C, c0 + 16); c += 4) {
          const s = sums + (((<usize>c) * taps) << 2);
          if (k == 3) taps3(p, d, s, count, OW, row, stride);
          else
            for (let i = 0; i < k; i++)
              for (let j = 0; j < k; j += 7)
                tapsRow(
                  p + (<usize>i) * row + (j << 4), d, s + ((i * k + j) << 4), count, OW, row, stride, min(7, k - j),
                );
          p += plane;
          d += small;
        }
      }
    }
    x += (<usize>H) * W * C * 4;
    dy += image;
  }
}

/** The first C channels of dw[k,k,ld] += sums. */
export function addTaps(sums: usize, dw: usize, k: i32, C: i32, ld: i32): void {
  for (let c = 0; c < C; c += 4)
    for (let t = 0; t < k * k; t++) {
      const to = dw + (((<usize>t) * ld + c) << 2);
      storePart(to, f32x4.add(loadPart(to, C - c), v128.load(sums)), C - c);
      sums += 16;
    }
}
