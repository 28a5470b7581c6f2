// Matrix products. The right factor is packed into panels of 8 columns (zero padded), the left one is read in place;
// a tile of 4 rows x 8 columns stays in registers. The loop over k is not unrolled: V8 spills registers when it is.
import { activate, ADD, HSWISH, LINEAR, PLAIN, RELU } from './activation';
import { loadPart, madd, storePart } from './simd';

/** Packs b, element (k, n) at b + 4 * (k * strideK + n * strideN), into ceil(N/8) panels [K][8]; its columns times
 *  scale[N] unless that is 0. */
export function packPanels(
  b: usize, panels: usize, K: i32, N: i32, strideK: i32, strideN: i32, scale: usize,
): void {
  let out = panels;
  for (let n = 0; n < N; n += 8) {
    const width = min(8, N - n), panel = out;
    for (let k = 0; k < K; k++) {
      const row = b + (((<usize>k) * strideK + (<usize>n) * strideN) << 2);
      if (strideN == 1 && width == 8) {
        v128.store(out, v128.load(row));
        v128.store(out, v128.load(row, 16), 16);
      } else {
        v128.store(out, f32x4.splat(0));
        v128.store(out, f32x4.splat(0), 16);
        for (let j = 0; j < width; j++)
          store<f32>(out + (j << 2), load<f32>(row + (((<usize>j) * strideN) << 2)));
      }
      out += 32;
    }
    if (scale) scalePanel(panel, out, scale + (n << 2), width);
  }
}

function scalePanel(panel: usize, end: usize, scale: usize, width: i32): void {
  const s0 = loadPart(scale, width), s1 = width > 4 ? loadPart(scale + 16, width - 4) : f32x4.splat(0);
  for (; panel < end; panel += 32) {
    v128.store(panel, f32x4.mul(v128.load(panel), s0));
    v128.store(panel, f32x4.mul(v128.load(panel, 16), s1), 16);
  }
}

/** What a tile starts from: the bias of its 8 columns, which may lie in a shorter array, or nothing. */
// @ts-ignore: decorator
@inline
function start(bias: usize, lanes: i32, end: i32): v128 {
  if (end == PLAIN || lanes <= 0) return f32x4.splat(0);
  return loadPart(bias, lanes);
}

// @ts-ignore: decorator
@inline
function storeRow(c: usize, v0: v128, v1: v128, width: i32, end: i32): void {
  if (end == ADD) {
    v0 = f32x4.add(loadPart(c, width), v0);
    if (width > 4) v1 = f32x4.add(loadPart(c + 16, width - 4), v1);
  } else {
    v0 = activate(v0, end);
    v1 = activate(v1, end);
  }
  if (width >= 8) {
    v128.store(c, v0);
    v128.store(c, v1, 16);
  } else if (width > 4) {
    v128.store(c, v0);
    storePart(c + 16, v1, width - 4);
  } else storePart(c, v0, width);
}

/** 4 rows x one panel, from s0 and s1 on. lda and ldc in bytes. */
// @ts-ignore: decorator
@inline
function tile4(
  a: usize, lda: usize, b: usize, last: usize, c: usize, ldc: usize, width: i32, s0: v128, s1: v128, end: i32,
): void {
  let c00 = s0, c01 = s1, c10 = s0, c11 = s1, c20 = s0, c21 = s1, c30 = s0, c31 = s1;
  let a1 = a + lda, a2 = a1 + lda, a3 = a2 + lda;
  while (b < last) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    let s = v128.load32_splat(a);
    c00 = madd(s, b0, c00);
    c01 = madd(s, b1, c01);
    s = v128.load32_splat(a1);
    c10 = madd(s, b0, c10);
    c11 = madd(s, b1, c11);
    s = v128.load32_splat(a2);
    c20 = madd(s, b0, c20);
    c21 = madd(s, b1, c21);
    s = v128.load32_splat(a3);
    c30 = madd(s, b0, c30);
    c31 = madd(s, b1, c31);
    a += 4;
    a1 += 4;
    a2 += 4;
    a3 += 4;
    b += 32;
  }
  storeRow(c, c00, c01, width, end);
  storeRow(c + ldc, c10, c11, width, end);
  storeRow(c + 2 * ldc, c20, c21, width, end);
  storeRow(c + 3 * ldc, c30, c31, width, end);
}

// @ts-ignore: decorator
@inline
function tile1(a: usize, b: usize, last: usize, c: usize, width: i32, s0: v128, s1: v128, end: i32): void {
  let c0 = s0, c1 = s1;
  while (b < last) {
    const s = v128.load32_splat(a);
    c0 = madd(s, v128.load(b), c0);
    c1 = madd(s, v128.load(b, 16), c1);
    a += 4;
    b += 32;
  }
  storeRow(c, c0, c1, width, end);
}

/** Blocks of rows keep a and c in the first-level cache while the panels pass. */
// @ts-ignore: decorator
@inline
function product(
  a: usize, panels: usize, c: usize, lines: i32, line: usize, M: i32, N: i32, K: i32, bias: usize, end: i32,
): void {
  const lda = (<usize>K) << 2, ldc = (<usize>N) << 2, panel = (<usize>K) << 5;
  const block = max(4, (6144 / (K + N)) & ~3);
  for (let l = 0; l < lines; l++) {
    for (let m0 = 0; m0 < M; m0 += block) {
      const m1 = min(M, m0 + block);
      let b = panels;
      for (let n = 0; n < N; n += 8) {
        const width = N - n, last = b + panel, bn = bias + (n << 2);
        const s0 = start(bn, width, end), s1 = start(bn + 16, width - 4, end);
        let ap = a + lda * m0, cp = c + ldc * m0 + (n << 2), m = m0;
        for (; m + 4 <= m1; m += 4) {
          tile4(ap, lda, b, last, cp, ldc, width, s0, s1, end);
          ap += 4 * lda;
          cp += 4 * ldc;
        }
        for (; m < m1; m++) {
          tile1(ap, b, last, cp, width, s0, s1, end);
          ap += lda;
          cp += ldc;
        }
        b = last;
      }
    }
    a += lda * M;
    c += line;
  }
}

// A function each: V8 allocates registers worse in one that holds all these loops.
export function gemmPlain(
  a: usize, panels: usize, c: usize, lines: i32, line: usize, M: i32, N: i32, K: i32, bias: usize,
): void {
  product(a, panels, c, lines, line, M, N, K, bias, PLAIN);
}
export function gemmAdd(
  a: usize, panels: usize, c: usize, lines: i32, line: usize, M: i32, N: i32, K: i32, bias: usize,
): void {
  product(a, panels, c, lines, line, M, N, K, bias, ADD);
}
export function gemmLinear(
  a: usize, panels: usize, c: usize, lines: i32, line: usize, M: i32, N: i32, K: i32, bias: usize,
): void {
  product(a, panels, c, lines, line, M, N, K, bias, LINEAR);
}
export function gemmRelu(
  a: usize, panels: usize, c: usize, lines: i32, line: usize, M: i32, N: i32, K: i32, bias: usize,
): void {
  product(a, panels, c, lines, line, M, N, K, bias, RELU);
}
export function gemmHswish(
  a: usize, panels: usize, c: usize, lines: i32, line: usize, M: i32, N: i32, K: i32, bias: usize,
): void {
  product(a, panels, c, lines, line, M, N, K, bias, HSWISH);
}

/** c = act(a[lines,M,K] * packed b + bias[N]), `line` bytes of c for every M rows of N; act also PLAIN (then there is no
 *  bias) and ADD: to what is there. */
export function gemm(
  a: usize, panels: usize, c: usize, lines: i32, line: usize, M: i32, N: i32, K: i32, bias: usize, act: i32,
): void {
  if (act == PLAIN) gemmPlain(a, panels, c, lines, line, M, N, K, bias);
  else if (act == ADD) gemmAdd(a, panels, c, lines, line, M, N, K, bias);
  else if (act == LINEAR) gemmLinear(a, panels, c, lines, line, M, N, K, bias);
  else if (act == RELU) gemmRelu(a, panels, c, lines, line, M, N, K, bias);
  else gemmHswish(a, panels, c, lines, line, M, N, K, bias);
}

/** Packs `rows` rows of src[., cols] into panels [rows][4] of 4 columns (zero padded). */
function packFours(src: usize, dst: usize, rows: i32, cols: i32): void {
  const ld = (<usize>cols) << 2, panel = (<usize>rows) << 4;
  let c = 0;
  for (; c + 16 <= cols; c += 16) {
    let p = src + (c << 2), q = dst;
    const q1 = panel, q2 = panel * 2, q3 = panel * 3;
    for (let r = 0; r < rows; r++) {
      v128.store(q, v128.load(p));
      v128.store(q + q1, v128.load(p, 16));
      v128.store(q + q2, v128.load(p, 32));
      v128.store(q + q3, v128.load(p, 48));
      p += ld;
      q += 16;
    }
    dst += panel * 4;
  }
  for (; c < cols; c += 4) {
    const lanes = cols - c;
    let p = src + (c << 2), q = dst;
    for (let r = 0; r < rows; r++) {
      v128.store(q, loadPart(p, lanes));
      p += ld;
      q += 16;
    }
    dst += panel;
  }
}

/** Packs `rows` rows of src[., cols] into panels [rows][8] of 8 columns (zero padded). */
function packEights(src: usize, dst: usize, rows: i32, cols: i32): void {
  const ld = (<usize>cols) << 2, panel = (<usize>rows) << 5;
  let c = 0;
  for (; c + 16 <= cols; c += 16) {
    let p = src + (c << 2), q = dst, q1 = dst + panel;
    for (let r = 0; r < rows; r++) {
      v128.store(q, v128.load(p));
      v128.store(q, v128.load(p, 16), 16);
      v128.store(q1, v128.load(p, 32));
      v128.store(q1, v128.load(p, 48), 16);
      p += ld;
      q += 32;
      q1 += 32;
    }
    dst += panel * 2;
  }
  for (; c < cols; c += 8) {
    const lanes = cols - c;
    let p = src + (c << 2), q = dst;
    for (let r = 0; r < rows; r++) {
      v128.store(q, loadPart(p, lanes));
      v128.store(q, lanes > 4 ? loadPart(p + 16, lanes - 4) : f32x4.splat(0), 16);
      p += ld;
      q += 32;
    }
    dst += panel;
  }
}

/** A tile [4][8] of the product of a panel of fours, transposed, and a panel of eights, added to what is there. */
// @ts-ignore: decorator
@inline
function tileOuter(a: usize, b: usize, end: usize, c: usize): void {
  let c00 = v128.load(c), c01 = v128.load(c, 16), c10 = v128.load(c, 32), c11 = v128.load(c, 48);
  let c20 = v128.load(c, 64), c21 = v128.load(c, 80), c30 = v128.load(c, 96), c31 = v128.load(c, 112);
  while (b < end) {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    let s = v128.load32_splat(a);
    c00 = madd(s, b0, c00);
    c01 = madd(s, b1, c01);
    s = v128.load32_splat(a, 4);
    c10 = madd(s, b0, c10);
    c11 = madd(s, b1, c11);
    s = v128.load32_splat(a, 8);
    c20 = madd(s, b0, c20);
    c21 = madd(s, b1, c21);
    s = v128.load32_splat(a, 12);
    c30 = madd(s, b0, c30);
    c31 = madd(s, b1, c31);
    a += 16;
    b += 32;
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(c, c10, 32);
  v128.store(c, c11, 48);
  v128.store(c, c20, 64);
  v128.store(c, c21, 80);
  v128.store(c, c30, 96);
  v128.store(c, c31, 112);
}

/** tiles += a[rows,K]^T * b[rows,N]; tiles are [ceil(K/4)][ceil(N/8)][4][8], packed is room for both packed factors.
 *  A few hundred rows at most: they should stay in the cache. */
export function outerBlock(a: usize, b: usize, tiles: usize, packed: usize, rows: i32, K: i32, N: i32): void {
  const fours = packed, eights = packed + (<usize>rows) * (((K + 3) & ~3) << 2);
  packFours(a, fours, rows, K);
  packEights(b, eights, rows, N);
  const sizeA = (<usize>rows) << 4, sizeB = (<usize>rows) << 5;
  let t = tiles, ap = fours;
  for (let k = 0; k < K; k += 4) {
    let bp = eights;
    for (let n = 0; n < N; n += 8) {
      tileOuter(ap, bp, bp + sizeB, t);
      bp += sizeB;
      t += 128;
    }
    ap += sizeA;
  }
}

// @ts-ignore: decorator
@inline
function addRow(c: usize, tile: usize, width: i32): void {
  storePart(c, f32x4.add(loadPart(c, width), v128.load(tile)), width);
  if (width > 4) storePart(c + 16, f32x4.add(loadPart(c + 16, width - 4), v128.load(tile, 16)), width - 4);
}

/** c += tiles; c is K rows of N values, `ld` values apart. */
export function outerStore(tiles: usize, c: usize, K: i32, N: i32, ld: i32): void {
  let t = tiles;
  for (let k = 0; k < K; k += 4)
    for (let n = 0; n < N; n += 8) {
      for (let i = 0; i < min(4, K - k); i++)
        addRow(c + (((<usize>(k + i)) * ld + n) << 2), t + (i << 5), N - n);
      t += 128;
    }
}
