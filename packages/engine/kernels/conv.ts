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

// @ts-ignore: decorator
@inline
function patches(
  x: usize, out: usize, row0: i32, rows: i32, H: i32, W: i32, C: i32, OH: i32, OW: i32, KH: i32, KW: i32, S: i32,
  top: i32, left: i32, back: bool,
): void {
  let ow = row0 % OW, oh = (row0 / OW) % OH, n = row0 / (OW * OH);
  for (let r = 0; r < rows; r++) {
    const w0 = ow * S - left;
    const first = max(0, -w0), last = max(first, min(KW, W - w0)), h0 = oh * S - top;
    // Away from the borders, rows of the filter follow each other: what one writes too much the next one overwrites.
    const inside = !back && first == 0 && last == KW && h0 >= 0 && h0 + KH <= H;
    if (inside) {
      let p = x + ((((<usize>n) * H + h0) * W + w0) * C) * 4;
      for (let i = 1; i < KH; i++, p += (W * C) << 2, out += (KW * C) << 2) copyOver(p, out, KW * C);
      copy(p, out, KW * C);
      out += (KW * C) << 2;
    } else for (let i = 0; i < KH; i++) {
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
    if (++ow == OW) {
      ow = 0;
      if (++oh == OH) {
        oh = 0;
        n++;
      }
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
