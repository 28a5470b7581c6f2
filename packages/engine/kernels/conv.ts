// Convolutions as matrix products over patches: rows of `kh * kw * C` input values, made a few hundred at a time so
// that they stay in the cache. Geometry is passed in one block of 32-bit integers, see the offsets below.
import { gemm, OUTER_ROWS, outerBlock, outerStore } from './gemm';
import { loadPart, storePart } from './simd';

/** Integers at g: H W C OH OW KH KW stride padTop padLeft. */
// @ts-ignore: decorator
@inline
function geo(g: usize, index: i32): i32 {
  return load<i32>(g + (index << 2));
}

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

/** Patches of output positions row0 .. row0 + rows - 1 (counted over N, OH, OW), to patches[rows, KH*KW*C]; or back,
 *  adding patches into x. */
// @ts-ignore: decorator
@inline
function patches(x: usize, out: usize, row0: i32, rows: i32, g: usize, back: bool): void {
  const H = geo(g, 0), W = geo(g, 1), C = geo(g, 2), OH = geo(g, 3), OW = geo(g, 4);
  const KH = geo(g, 5), KW = geo(g, 6), S = geo(g, 7), top = geo(g, 8), left = geo(g, 9);
  let ow = row0 % OW, oh = (row0 / OW) % OH, n = row0 / (OW * OH);
  for (let r = 0; r < rows; r++) {
    const w0 = ow * S - left;
    const first = max(0, -w0), last = max(first, min(KW, W - w0));
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
    if (++ow == OW) {
      ow = 0;
      if (++oh == OH) {
        oh = 0;
        n++;
      }
    }
  }
}

function gather(x: usize, out: usize, row0: i32, rows: i32, g: usize): void {
  patches(x, out, row0, rows, g, false);
}

function scatter(out: usize, x: usize, row0: i32, rows: i32, g: usize): void {
  patches(x, out, row0, rows, g, true);
}

/** y[M,N] = patches of x times the packed filter; room holds `chunk` patches. */
export function convForward(
  x: usize, panels: usize, y: usize, room: usize, chunk: i32, M: i32, N: i32, K: i32, g: usize,
): void {
  for (let m = 0; m < M; m += chunk) {
    const rows = min(chunk, M - m);
    gather(x, room, m, rows, g);
    gemm(room, panels, y + (((<usize>m) * N) << 2), rows, N, K);
  }
}

/** dx += dy times the packed transposed filter, put back where the patches came from. */
export function convBackInput(
  dy: usize, panels: usize, dx: usize, room: usize, chunk: i32, M: i32, N: i32, K: i32, g: usize,
): void {
  for (let m = 0; m < M; m += chunk) {
    const rows = min(chunk, M - m);
    gemm(dy + (((<usize>m) * N) << 2), panels, room, rows, K, N);
    scatter(room, dx, m, rows, g);
  }
}

/** dw[K,N] = patches of x, transposed, times dy; room holds OUTER_ROWS patches. */
export function convBackFilter(
  x: usize, dy: usize, dw: usize, room: usize, tiles: usize, packed: usize, M: i32, N: i32, K: i32, g: usize,
): void {
  memory.fill(tiles, 0, (<usize>((K + 3) & ~3)) * ((N + 7) & ~7) * 4);
  for (let m = 0; m < M; m += OUTER_ROWS) {
    const rows = min(OUTER_ROWS, M - m);
    gather(x, room, m, rows, g);
    outerBlock(room, dy + (((<usize>m) * N) << 2), tiles, packed, rows, K, N);
  }
  outerStore(tiles, dw, K, N);
}
