// Patches: what a convolution's filter sees of its input at one output position, `KH * KW * C` values. They turn a
// convolution into a matrix product.
import { loadPart, storePart } from './simd';

// @ts-ignore: decorator
@inline
function copy(src: usize, dst: usize, count: i32): void {
  while (count >= 4) {
    v128.store(dst, v128.load(src));
    src += 16;
    dst += 16;
    count -= 4;
  }
  if (count > 0) storePart(dst, loadPart(src, count), count);
}

// @ts-ignore: decorator
@inline
function zero(dst: usize, count: i32): void {
  while (count >= 4) {
    v128.store(dst, f32x4.splat(0));
    dst += 16;
    count -= 4;
  }
  if (count > 0) storePart(dst, f32x4.splat(0), count);
}

// @ts-ignore: decorator
@inline
function accumulate(src: usize, dst: usize, count: i32): void {
  while (count >= 4) {
    v128.store(dst, f32x4.add(v128.load(dst), v128.load(src)));
    src += 16;
    dst += 16;
    count -= 4;
  }
  if (count > 0) storePart(dst, f32x4.add(loadPart(dst, count), loadPart(src, count)), count);
}

/** Copies in whole vectors: up to 3 values more than asked for. */
// @ts-ignore: decorator
@inline
function copyOver(src: usize, dst: usize, count: i32): void {
  for (; count > 0; count -= 4, src += 16, dst += 16) v128.store(dst, v128.load(src));
}

/** `count` neighbouring patches that lie in the image: what one writes too much, the next one overwrites. `hop` bytes
 *  from patch to patch, rows of the image `line` bytes apart. */
// @ts-ignore: decorator
@inline
function inside(p: usize, out: usize, count: i32, hop: usize, line: usize, KH: i32, span: i32): void {
  const bytes = <usize>span << 2;
  for (let n = 0; n < count; n++, p += hop) {
    let q = p;
    for (let i = 0; i < KH; i++, q += line, out += bytes) copyOver(q, out, span);
  }
}

/** The same for filters of 3 rows of 9 values, which is 3x3 on colours. */
function inside3x9(p: usize, out: usize, count: i32, hop: usize, line: usize): void {
  for (const line2 = 2 * line; count > 0; count--, p += hop, out += 108) {
    const a0 = v128.load(p), a1 = v128.load(p, 16), a2 = v128.load(p, 32);
    const q = p + line, b0 = v128.load(q), b1 = v128.load(q, 16), b2 = v128.load(q, 32);
    const r = p + line2, c0 = v128.load(r), c1 = v128.load(r, 16), c2 = v128.load(r, 32);
    v128.store(out, a0);
    v128.store(out, a1, 16);
    v128.store(out, a2, 32);
    v128.store(out, b0, 36);
    v128.store(out, b1, 52);
    v128.store(out, b2, 68);
    v128.store(out, c0, 72);
    v128.store(out, c1, 88);
    v128.store(out, c2, 104);
  }
}

// @ts-ignore: decorator
@inline
function patches(
  x: usize, out: usize, row0: i32, rows: i32, H: i32, W: i32, C: i32, OH: i32, OW: i32, KH: i32, KW: i32, S: i32,
  top: i32, left: i32, back: bool,
): void {
  let ow = row0 % OW, oh = (row0 / OW) % OH, n = row0 / (OW * OH);
  for (let r = 0; r < rows; r++, ow++) {
    if (ow == OW) {
      ow = 0;
      if (++oh == OH) {
        oh = 0;
        n++;
      }
    }
    const w0 = ow * S - left;
    const first = max(0, -w0), last = max(first, min(KW, W - w0)), h0 = oh * S - top;
    if (!back && w0 >= 0 && h0 >= 0 && w0 + KW <= W && h0 + KH <= H && S * C >= 3 && KW * C >= 4) {
      // The last patch of all must neither read nor write too much.
      const count = min(min(rows - r - 1, OW - ow), (W - KW - w0) / S + 1);
      if (count > 0) {
        const p = x + ((((<usize>n) * H + h0) * W + w0) * C) * 4, hop = <usize>(S * C) << 2, line = <usize>(W * C) << 2;
        if (KH == 3 && KW * C == 9) inside3x9(p, out, count, hop, line);
        else inside(p, out, count, hop, line, KH, KW * C);
        out += (<usize>count * KH * KW * C) << 2;
        ow += count - 1;
        r += count - 1;
        continue;
      }
    }
    for (let i = 0; i < KH; i++) {
      const h = oh * S - top + i;
      if (h < 0 || h >= H || first >= last) {
        if (!back) zero(out, KW * C);
      } else {
        const p = x + ((((<usize>n) * H + h) * W + (w0 + first)) * C) * 4;
        if (back) accumulate(out + ((first * C) << 2), p, (last - first) * C);
        else {
          if (first > 0) zero(out, first * C);
          copy(p, out + ((first * C) << 2), (last - first) * C);
          if (last < KW) zero(out + ((last * C) << 2), (KW - last) * C);
        }
      }
      out += (KW * C) << 2;
    }
  }
}

/** out[rows, KH*KW*C] = patches of x[N,H,W,C] at output positions row0 .. row0 + rows - 1, counted over N, OH, OW. */
export function gather(
  x: usize, out: usize, row0: i32, rows: i32, H: i32, W: i32, C: i32, OH: i32, OW: i32, KH: i32, KW: i32, S: i32,
  top: i32, left: i32,
): void {
  patches(x, out, row0, rows, H, W, C, OH, OW, KH, KW, S, top, left, false);
}

/** Adds patches back into x where they came from. */
export function scatter(
  x: usize, out: usize, row0: i32, rows: i32, H: i32, W: i32, C: i32, OH: i32, OW: i32, KH: i32, KW: i32, S: i32,
  top: i32, left: i32,
): void {
  patches(x, out, row0, rows, H, W, C, OH, OW, KH, KW, S, top, left, true);
}
