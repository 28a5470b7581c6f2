// Batch norm over rows x[M,C]. Statistics are taken in blocks of rows that stay in the cache (block mean, then squared
// deviations from it) and merged in float64, so one pass over memory is as exact as two.
import { loadPart, madd, storePart, touch } from './simd';

export const LINEAR: i32 = 0;
export const RELU: i32 = 1;
export const HSWISH: i32 = 2;

// @ts-ignore: decorator
@inline
function activate(z: v128, act: i32): v128 {
  if (act == RELU) return f32x4.max(z, f32x4.splat(0));
  if (act == HSWISH) {
    const gate = f32x4.min(f32x4.max(f32x4.add(z, f32x4.splat(3)), f32x4.splat(0)), f32x4.splat(6));
    return f32x4.mul(f32x4.mul(z, gate), f32x4.splat(<f32>(1.0 / 6.0)));
  }
  return z;
}

/** dy * activation'(z). */
// @ts-ignore: decorator
@inline
function through(dy: v128, z: v128, act: i32): v128 {
  if (act == RELU) return v128.and(dy, f32x4.gt(z, f32x4.splat(0)));
  if (act == HSWISH) {
    const slope = madd(z, f32x4.splat(<f32>(1.0 / 3.0)), f32x4.splat(0.5));
    const inside = v128.and(slope, f32x4.gt(z, f32x4.splat(-3)));
    return f32x4.mul(dy, v128.bitselect(f32x4.splat(1), inside, f32x4.ge(z, f32x4.splat(3))));
  }
  return dy;
}

// @ts-ignore: decorator
@inline
function blockRows(C: i32): i32 {
  return max(16, 4096 / C);
}

/** Sums of four vectors (one cache line) of each row; their chains of additions overlap. */
// @ts-ignore: decorator
@inline
function blockMoments16(p: usize, ld: usize, rows: i32, mean: usize, squares: usize): void {
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, q = p;
  for (let r = 0; r < rows; r++, q += ld) {
    s0 = f32x4.add(s0, v128.load(q));
    s1 = f32x4.add(s1, v128.load(q, 16));
    s2 = f32x4.add(s2, v128.load(q, 32));
    s3 = f32x4.add(s3, v128.load(q, 48));
  }
  const count = f32x4.splat(<f32>rows);
  const m0 = f32x4.div(s0, count), m1 = f32x4.div(s1, count), m2 = f32x4.div(s2, count), m3 = f32x4.div(s3, count);
  s0 = s1 = s2 = s3 = f32x4.splat(0);
  q = p;
  for (let r = 0; r < rows; r++, q += ld) {
    const d0 = f32x4.sub(v128.load(q), m0), d1 = f32x4.sub(v128.load(q, 16), m1);
    const d2 = f32x4.sub(v128.load(q, 32), m2), d3 = f32x4.sub(v128.load(q, 48), m3);
    s0 = madd(d0, d0, s0);
    s1 = madd(d1, d1, s1);
    s2 = madd(d2, d2, s2);
    s3 = madd(d3, d3, s3);
  }
  v128.store(mean, m0);
  v128.store(mean, m1, 16);
  v128.store(mean, m2, 32);
  v128.store(mean, m3, 48);
  v128.store(squares, s0);
  v128.store(squares, s1, 16);
  v128.store(squares, s2, 32);
  v128.store(squares, s3, 48);
}

// @ts-ignore: decorator
@inline
function blockMoments4(p: usize, ld: usize, rows: i32, mean: usize, squares: usize, lanes: i32): void {
  let sum = f32x4.splat(0), square = f32x4.splat(0), q = p;
  for (let r = 0; r < rows; r++, q += ld) sum = f32x4.add(sum, loadPart(q, lanes));
  const centre = f32x4.div(sum, f32x4.splat(<f32>rows));
  q = p;
  for (let r = 0; r < rows; r++, q += ld) {
    const d = f32x4.sub(loadPart(q, lanes), centre);
    square = madd(d, d, square);
  }
  storePart(mean, centre, lanes);
  storePart(squares, square, lanes);
}

/** mean[C] and biased variance[C]; totals is room for 2 * C + 2 float64. */
export function moments(x: usize, M: i32, C: i32, mean: usize, variance: usize, totals: usize): void {
  const ld = (<usize>C) << 2, block = blockRows(C);
  memory.fill(totals, 0, (<usize>C) << 4);
  for (let m = 0; m < M; m += block) {
    const rows = min(block, M - m), base = x + (<usize>m) * ld;
    touch(base, (<usize>rows) * ld, totals + (C << 4));
    let c0 = 0;
    for (; c0 + 16 <= C; c0 += 16) {
      const at = c0 << 2;
      blockMoments16(base + at, ld, rows, mean + at, variance + at);
    }
    for (; c0 < C; c0 += 4) {
      const at = c0 << 2;
      blockMoments4(base + at, ld, rows, mean + at, variance + at, C - c0);
    }
    const before = <f64>m, count = <f64>rows;
    for (let c = 0; c < C; c++) {
      const t = totals + (c << 4);
      const delta = <f64>load<f32>(mean + (c << 2)) - load<f64>(t);
      store<f64>(t, load<f64>(t) + (delta * count) / (before + count));
      const spread = <f64>load<f32>(variance + (c << 2)) + (delta * delta * before * count) / (before + count);
      store<f64>(t, load<f64>(t, 8) + spread, 8);
    }
  }
  for (let c = 0; c < C; c++) {
    store<f32>(mean + (c << 2), <f32>load<f64>(totals + (c << 4)));
    store<f32>(variance + (c << 2), <f32>(load<f64>(totals + (c << 4), 8) / <f64>M));
  }
}

// @ts-ignore: decorator
@inline
function affineRows(x: usize, y: usize, M: i32, C: i32, scale: usize, shift: usize, act: i32): void {
  for (let m = 0; m < M; m++) {
    let c = 0;
    for (; c + 4 <= C; c += 4) {
      const at = c << 2;
      v128.store(y, activate(madd(v128.load(x), v128.load(scale + at), v128.load(shift + at)), act));
      x += 16;
      y += 16;
    }
    if (c < C) {
      const lanes = C - c, at = c << 2;
      const z = madd(loadPart(x, lanes), loadPart(scale + at, lanes), loadPart(shift + at, lanes));
      storePart(y, activate(z, act), lanes);
      x += lanes << 2;
      y += lanes << 2;
    }
  }
}

/** y[M,C] = act(x * scale + shift). */
export function affine(x: usize, y: usize, M: i32, C: i32, scale: usize, shift: usize, act: i32): void {
  if (act == LINEAR) affineRows(x, y, M, C, scale, shift, LINEAR);
  else if (act == RELU) affineRows(x, y, M, C, scale, shift, RELU);
  else affineRows(x, y, M, C, scale, shift, HSWISH);
}

// @ts-ignore: decorator
@inline
function gradSums(
  x: usize, dy: usize, M: i32, C: i32, scale: usize, shift: usize, centre: usize, totals: usize, act: i32,
): void {
  const ld = (<usize>C) << 2, block = max(8, blockRows(C) >> 1);
  memory.fill(totals, 0, (<usize>C) << 4);
  for (let m = 0; m < M; m += block) {
    const rows = min(block, M - m);
    touch(x, (<usize>rows) * ld, totals + (C << 4));
    touch(dy, (<usize>rows) * ld, totals + (C << 4));
    let c = 0;
    for (; c + 8 <= C; c += 8) {
      const at = c << 2;
      const a0 = v128.load(scale + at), a1 = v128.load(scale + at, 16);
      const b0 = v128.load(shift + at), b1 = v128.load(shift + at, 16);
      const mu0 = v128.load(centre + at), mu1 = v128.load(centre + at, 16);
      let p0 = f32x4.splat(0), p1 = p0, q0 = p0, q1 = p0, p = x + at, q = dy + at;
      for (let r = 0; r < rows; r++, p += ld, q += ld) {
        const v0 = v128.load(p), d0 = through(v128.load(q), madd(v0, a0, b0), act);
        p0 = f32x4.add(p0, d0);
        q0 = madd(d0, f32x4.sub(v0, mu0), q0);
        const v1 = v128.load(p, 16), d1 = through(v128.load(q, 16), madd(v1, a1, b1), act);
        p1 = f32x4.add(p1, d1);
        q1 = madd(d1, f32x4.sub(v1, mu1), q1);
      }
      addLanes(totals + (c << 4), p0, q0, 4);
      addLanes(totals + (c << 4) + 64, p1, q1, 4);
    }
    for (; c < C; c += 4) {
      const lanes = C - c, at = c << 2;
      const a = loadPart(scale + at, lanes), b = loadPart(shift + at, lanes), mu = loadPart(centre + at, lanes);
      let p = x + at, q = dy + at, plain = f32x4.splat(0), moment = f32x4.splat(0);
      for (let r = 0; r < rows; r++, p += ld, q += ld) {
        const v = loadPart(p, lanes), d = through(loadPart(q, lanes), madd(v, a, b), act);
        plain = f32x4.add(plain, d);
        moment = madd(d, f32x4.sub(v, mu), moment);
      }
      addLanes(totals + (c << 4), plain, moment, lanes);
    }
    x += (<usize>rows) * ld;
    dy += (<usize>rows) * ld;
  }
}

// @ts-ignore: decorator
@inline
function addPair(t: usize, a: f32, b: f32): void {
  store<f64>(t, load<f64>(t) + <f64>a);
  store<f64>(t, load<f64>(t, 8) + <f64>b, 8);
}

// @ts-ignore: decorator
@inline
function addLanes(t: usize, a: v128, b: v128, lanes: i32): void {
  addPair(t, f32x4.extract_lane(a, 0), f32x4.extract_lane(b, 0));
  if (lanes > 1) addPair(t + 16, f32x4.extract_lane(a, 1), f32x4.extract_lane(b, 1));
  if (lanes > 2) addPair(t + 32, f32x4.extract_lane(a, 2), f32x4.extract_lane(b, 2));
  if (lanes > 3) addPair(t + 48, f32x4.extract_lane(a, 3), f32x4.extract_lane(b, 3));
}

/** Per channel, as float64 pairs (totals has room for one more): sum of d and of d * (x - centre), where d = dy * act'(x * scale + shift). */
export function affineGradSums(
  x: usize, dy: usize, M: i32, C: i32, scale: usize, shift: usize, centre: usize, totals: usize, act: i32,
): void {
  if (act == LINEAR) gradSums(x, dy, M, C, scale, shift, centre, totals, LINEAR);
  else if (act == RELU) gradSums(x, dy, M, C, scale, shift, centre, totals, RELU);
  else gradSums(x, dy, M, C, scale, shift, centre, totals, HSWISH);
}

// @ts-ignore: decorator
@inline
function gradRows(
  x: usize, dy: usize, dx: usize, M: i32, C: i32, scale: usize, shift: usize, slope: usize, offset: usize, act: i32,
): void {
  for (let m = 0; m < M; m++) {
    let c = 0;
    for (; c + 4 <= C; c += 4) {
      const at = c << 2, v = v128.load(x), a = v128.load(scale + at);
      const d = through(v128.load(dy), madd(v, a, v128.load(shift + at)), act);
      v128.store(dx, madd(d, a, madd(v, v128.load(slope + at), v128.load(offset + at))));
      x += 16;
      dy += 16;
      dx += 16;
    }
    if (c < C) {
      const lanes = C - c, at = c << 2, v = loadPart(x, lanes), a = loadPart(scale + at, lanes);
      const d = through(loadPart(dy, lanes), madd(v, a, loadPart(shift + at, lanes)), act);
      const linear = madd(v, loadPart(slope + at, lanes), loadPart(offset + at, lanes));
      storePart(dx, madd(d, a, linear), lanes);
      x += lanes << 2;
      dy += lanes << 2;
      dx += lanes << 2;
    }
  }
}

/** dx[M,C] = d * scale + x * slope + offset, with d as above. */
export function affineGrad(
  x: usize, dy: usize, dx: usize, M: i32, C: i32, scale: usize, shift: usize, slope: usize, offset: usize, act: i32,
): void {
  if (act == LINEAR) gradRows(x, dy, dx, M, C, scale, shift, slope, offset, LINEAR);
  else if (act == RELU) gradRows(x, dy, dx, M, C, scale, shift, slope, offset, RELU);
  else gradRows(x, dy, dx, M, C, scale, shift, slope, offset, HSWISH);
}
