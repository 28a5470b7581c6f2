// Depthwise convolutions. Four channels of one image at a time are laid out as a zero-padded plane [H][W][4] that fits
// the first-level cache; sixteen channels (a cache line) are packed together.
import { loadPart, madd, storePart } from './simd';

/** Copies channels c0 .. c0+3 (up to 16 for a full cache line) of image[H,W,C] into planes with rows of `pitch` pixels;
 *  `inner` is the offset of pixel (0,0) in a plane, `plane` a plane's size, both in bytes. Borders are left alone. */
function pack(image: usize, planes: usize, H: i32, W: i32, C: i32, c0: i32, pitch: i32, inner: usize, plane: usize): void {
  const step = (<usize>C) << 2;
  let p = image + (c0 << 2);
  if (C - c0 >= 16) {
    for (let h = 0; h < H; h++) {
      let q = planes + inner + (((<usize>h) * pitch) << 4);
      for (let w = 0; w < W; w++) {
        v128.store(q, v128.load(p));
        v128.store(q + plane, v128.load(p, 16));
        v128.store(q + 2 * plane, v128.load(p, 32));
        v128.store(q + 3 * plane, v128.load(p, 48));
        p += step;
        q += 16;
      }
    }
    return;
  }
  for (let c = c0; c < C; c += 4) {
    const lanes = C - c;
    p = image + (c << 2);
    for (let h = 0; h < H; h++) {
      let q = planes + inner + (((<usize>h) * pitch) << 4);
      for (let w = 0; w < W; w++) {
        v128.store(q, loadPart(p, lanes));
        p += step;
        q += 16;
      }
    }
    planes += plane;
  }
}

/** filter[k*k, C] to [ceil(C/4)][k*k][4], zero padded, optionally turned by half a turn. */
export function packTaps(filter: usize, taps: usize, count: i32, C: i32, turned: bool): void {
  for (let c = 0; c < C; c += 4)
    for (let t = 0; t < count; t++) {
      const from = turned ? count - 1 - t : t;
      v128.store(taps, loadPart(filter + (((<usize>from) * C + c) << 2), C - c));
      taps += 16;
    }
}

/** The stride is carried as the size of a type, so that it is a constant in every address. */
// @ts-ignore: decorator
@inline
function plane8<S>(p: usize, row: usize, taps: usize, k: i32, y: usize, step: usize, count: i32, lanes: i32): void {
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  let a4 = f32x4.splat(0), a5 = f32x4.splat(0), a6 = f32x4.splat(0), a7 = f32x4.splat(0);
  for (let i = 0; i < k; i++) {
    let q = p;
    const end = p + (k << 4);
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
function plane4<S>(p: usize, row: usize, taps: usize, k: i32, y: usize, step: usize, count: i32, lanes: i32): void {
  let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
  for (let i = 0; i < k; i++) {
    let q = p;
    const end = p + (k << 4);
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

/** One plane: y[OH,OW] (channels C apart) = plane correlated with taps. */
function correlate<S>(
  plane: usize, taps: usize, y: usize, OH: i32, OW: i32, C: i32, pitch: i32, k: i32, lanes: i32,
): void {
  const row = (<usize>pitch) << 4, step = (<usize>C) << 2;
  for (let oh = 0; oh < OH; oh++) {
    let p = plane + (<usize>oh) * row * sizeof<S>();
    let ow = 0;
    while (OW - ow > 4) {
      plane8<S>(p, row, taps, k, y, step, OW - ow, lanes);
      const done = min(8, OW - ow);
      y += (<usize>done) * step;
      p += 128 * sizeof<S>();
      ow += done;
    }
    if (ow < OW) {
      plane4<S>(p, row, taps, k, y, step, OW - ow, lanes);
      y += (<usize>(OW - ow)) * step;
    }
  }
}

/** y[N,OH,OW,C] = x[N,H,W,C] correlated with packed taps. planes: 4 zeroed planes of rows x pitch pixels plus slack. */
export function depthwise(
  x: usize, taps: usize, y: usize, planes: usize, N: i32, H: i32, W: i32, C: i32, OH: i32, OW: i32,
  k: i32, stride: i32, top: i32, left: i32, rows: i32, pitch: i32,
): void {
  const plane = ((<usize>rows) * pitch) << 4, inner = ((<usize>top) * pitch + left) << 4;
  const sizeX = (<usize>H) * W * C * 4, sizeY = (<usize>OH) * OW * C * 4;
  for (let n = 0; n < N; n++) {
    for (let c0 = 0; c0 < C; c0 += 16) {
      pack(x, planes, H, W, C, c0, pitch, inner, plane);
      let p = planes;
      for (let c = c0; c < min(C, c0 + 16); c += 4) {
        const t = taps + (((<usize>c) * k * k) << 2);
        if (stride == 1) correlate<u8>(p, t, y + (c << 2), OH, OW, C, pitch, k, C - c);
        else correlate<u16>(p, t, y + (c << 2), OH, OW, C, pitch, k, C - c);
        p += plane;
      }
    }
    x += sizeX;
    y += sizeY;
  }
}

/** Adds dy[OH,OW][4] times every tap into the plane, `stride` pixels apart. */
function spread(dy: usize, taps: usize, plane: usize, OH: i32, OW: i32, pitch: i32, k: i32, stride: i32): void {
  const step = (<usize>stride) << 4;
  for (let oh = 0; oh < OH; oh++) {
    let t = taps;
    const end = dy + (OW << 4);
    for (let i = 0; i < k; i++)
      for (let j = 0; j < k; j++) {
        const w = v128.load(t);
        let q = plane + (((<usize>(oh * stride + i)) * pitch + j) << 4);
        for (let p = dy; p < end; p += 16) {
          v128.store(q, madd(v128.load(p), w, v128.load(q)));
          q += step;
        }
        t += 16;
      }
    dy = end;
  }
}

/** dx[N,H,W,C] for any stride: dy spread over zeroed padded planes, their inner part copied out.
 *  planes: 4 planes of dy (OH x OW), then one of rows x pitch. */
export function depthwiseBackInput(
  dy: usize, taps: usize, dx: usize, planes: usize, N: i32, H: i32, W: i32, C: i32, OH: i32, OW: i32,
  k: i32, stride: i32, top: i32, left: i32, rows: i32, pitch: i32,
): void {
  const small = ((<usize>OH) * OW) << 4, large = ((<usize>rows) * pitch) << 4, sum = planes + 4 * small;
  const step = (<usize>C) << 2;
  for (let n = 0; n < N; n++) {
    for (let c0 = 0; c0 < C; c0 += 16) {
      pack(dy, planes, OH, OW, C, c0, OW, 0, small);
      let p = planes;
      for (let c = c0; c < min(C, c0 + 16); c += 4) {
        memory.fill(sum, 0, large);
        spread(p, taps + (((<usize>c) * k * k) << 2), sum, OH, OW, pitch, k, stride);
        let out = dx + (c << 2);
        for (let h = 0; h < H; h++) {
          let q = sum + (((<usize>(h + top)) * pitch + left) << 4);
          for (let w = 0; w < W; w++) {
            storePart(out, v128.load(q), C - c);
            out += step;
            q += 16;
          }
        }
        p += small;
      }
    }
    dy += (<usize>OH) * OW * step;
    dx += (<usize>H) * W * step;
  }
}

/** Sums over one plane for a 3x3 filter: nine accumulators hide the latency of the additions. */
function taps3(plane: usize, dy: usize, sums: usize, OH: i32, OW: i32, pitch: i32, stride: i32): void {
  const row = (<usize>pitch) << 4, step = (<usize>stride) << 4;
  let s0 = v128.load(sums), s1 = v128.load(sums, 16), s2 = v128.load(sums, 32), s3 = v128.load(sums, 48);
  let s4 = v128.load(sums, 64), s5 = v128.load(sums, 80), s6 = v128.load(sums, 96), s7 = v128.load(sums, 112);
  let s8 = v128.load(sums, 128);
  for (let oh = 0; oh < OH; oh++) {
    let p = plane + (<usize>oh) * row * stride, q = p + row, r = q + row;
    const end = dy + (OW << 4);
    while (dy < end) {
      const d = v128.load(dy);
      s0 = madd(v128.load(p), d, s0);
      s1 = madd(v128.load(p, 16), d, s1);
      s2 = madd(v128.load(p, 32), d, s2);
      s3 = madd(v128.load(q), d, s3);
      s4 = madd(v128.load(q, 16), d, s4);
      s5 = madd(v128.load(q, 32), d, s5);
      s6 = madd(v128.load(r), d, s6);
      s7 = madd(v128.load(r, 16), d, s7);
      s8 = madd(v128.load(r, 32), d, s8);
      p += step;
      q += step;
      r += step;
      dy += 16;
    }
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

/** Sums for up to 7 taps of filter row i, starting at column j. */
function tapsRow(
  plane: usize, dy: usize, sums: usize, OH: i32, OW: i32, pitch: i32, stride: i32, i: i32, count: i32,
): void {
  const step = (<usize>stride) << 4;
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0;
  for (let oh = 0; oh < OH; oh++) {
    let p = plane + (((<usize>(oh * stride + i)) * pitch) << 4);
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
  }
  v128.store(sums, f32x4.add(v128.load(sums), s0));
  if (count > 1) v128.store(sums, f32x4.add(v128.load(sums, 16), s1), 16);
  if (count > 2) v128.store(sums, f32x4.add(v128.load(sums, 32), s2), 32);
  if (count > 3) v128.store(sums, f32x4.add(v128.load(sums, 48), s3), 48);
  if (count > 4) v128.store(sums, f32x4.add(v128.load(sums, 64), s4), 64);
  if (count > 5) v128.store(sums, f32x4.add(v128.load(sums, 80), s5), 80);
  if (count > 6) v128.store(sums, f32x4.add(v128.load(sums, 96), s6), 96);
}

/** dw[k,k,C]. planes: 4 zeroed planes of rows x pitch plus slack; grads: 4 planes of OH x OW;
 *  sums: ceil(C/4) * k*k vectors, overwritten. */
export function depthwiseBackFilter(
  x: usize, dy: usize, dw: usize, planes: usize, grads: usize, sums: usize, N: i32, H: i32, W: i32, C: i32,
  OH: i32, OW: i32, k: i32, stride: i32, top: i32, left: i32, rows: i32, pitch: i32,
): void {
  const plane = ((<usize>rows) * pitch) << 4, small = ((<usize>OH) * OW) << 4;
  const inner = ((<usize>top) * pitch + left) << 4, taps = k * k;
  memory.fill(sums, 0, (<usize>((C + 3) & ~3)) * taps * 4);
  for (let n = 0; n < N; n++) {
    for (let c0 = 0; c0 < C; c0 += 16) {
      pack(x, planes, H, W, C, c0, pitch, inner, plane);
      pack(dy, grads, OH, OW, C, c0, OW, 0, small);
      let p = planes, d = grads;
      for (let c = c0; c < min(C, c0 + 16); c += 4) {
        const s = sums + (((<usize>c) * taps) << 2);
        if (k == 3) taps3(p, d, s, OH, OW, pitch, stride);
        else
          for (let i = 0; i < k; i++)
            for (let j = 0; j < k; j += 7)
              tapsRow(p + (j << 4), d, s + ((i * k + j) << 4), OH, OW, pitch, stride, i, min(7, k - j));
        p += plane;
        d += small;
      }
    }
    x += (<usize>H) * W * C * 4;
    dy += (<usize>OH) * OW * C * 4;
  }
  for (let c = 0; c < C; c += 4)
    for (let t = 0; t < taps; t++)
      storePart(dw + (((<usize>t) * C + c) << 2), v128.load(sums + (((<usize>c) * taps + t * 4) << 2)), C - c);
}
