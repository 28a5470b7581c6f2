// Batch norm over rows x[M,C]. Statistics and sums are taken in blocks of rows that stay in the cache and merged in
// float64; rows may come in parts, as soon as they are made.
import { activate, HSWISH, LINEAR, RELU } from './activation';
import { loadPart, madd, storePart, touch } from './simd';

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
  return min(256, max(16, 4096 / C));
}

/** sums[C] of rows x[rows,C], written in whole vectors. */
function columnSums(x: usize, rows: i32, C: i32, sums: usize): void {
  const ld = (<usize>C) << 2;
  for (let c = 0; c < C; c += 4) {
    let p = x + (c << 2), sum = f32x4.splat(0);
    for (let r = 0; r < rows; r++, p += ld) sum = f32x4.add(sum, loadPart(p, C - c));
    v128.store(sums + (c << 2), sum);
  }
}

/** Per channel: sums of x - centre and of its square; all written in whole vectors. Two rows of 8 channels at a time:
 *  what the loop loads and adds to must fit into the registers together. */
function deviations(x: usize, rows: i32, C: i32, centre: usize, plain: usize, squares: usize): void {
  const ld = (<usize>C) << 2;
  let c = 0;
  for (; c + 8 <= C; c += 8) {
    const at = c << 2, m0 = v128.load(centre + at), m1 = v128.load(centre + at, 16);
    let s0 = f32x4.splat(0), s1 = s0, q0 = s0, q1 = s0, q2 = s0, q3 = s0, p = x + at, r = 0;
    for (; r + 2 <= rows; r += 2) {
      const d0 = f32x4.sub(v128.load(p), m0), d1 = f32x4.sub(v128.load(p, 16), m1);
      p += ld;
      const d2 = f32x4.sub(v128.load(p), m0), d3 = f32x4.sub(v128.load(p, 16), m1);
      p += ld;
      s0 = f32x4.add(s0, f32x4.add(d0, d2));
      s1 = f32x4.add(s1, f32x4.add(d1, d3));
      q0 = madd(d0, d0, q0);
      q1 = madd(d1, d1, q1);
      q2 = madd(d2, d2, q2);
      q3 = madd(d3, d3, q3);
    }
    if (r < rows) {
      const d0 = f32x4.sub(v128.load(p), m0), d1 = f32x4.sub(v128.load(p, 16), m1);
      s0 = f32x4.add(s0, d0);
      s1 = f32x4.add(s1, d1);
      q0 = madd(d0, d0, q0);
      q1 = madd(d1, d1, q1);
    }
    v128.store(plain + at, s0);
    v128.store(plain + at, s1, 16);
    v128.store(squares + at, f32x4.add(q0, q2));
    v128.store(squares + at, f32x4.add(q1, q3), 16);
  }
  for (; c < C; c += 4) {
    const at = c << 2, lanes = C - c, m = loadPart(centre + at, lanes);
    let s = f32x4.splat(0), q = s, p = x + at;
    for (let r = 0; r < rows; r++, p += ld) {
      const d = f32x4.sub(loadPart(p, lanes), m);
      s = f32x4.add(s, d);
      q = madd(d, d, q);
    }
    v128.store(plain + at, s);
    v128.store(squares + at, q);
  }
}

/** Adds rows x[rows,C] to the statistics of the `before` rows seen so far. totals: per channel the mean and the sum of
 *  squared deviations from it, in float64, and room for one more channel; centre, plain, squares: room for C values,
 *  rounded up to 4. Deviations are taken from the mean so far, so that one pass over the data is as exact as two. */
export function addMoments(
  x: usize, rows: i32, C: i32, before: i32, totals: usize, centre: usize, plain: usize, squares: usize,
): void {
  const ld = (<usize>C) << 2, block = 4 * blockRows(C);
  for (let m = 0; m < rows; m += block) {
    const count = min(block, rows - m);
    if (before == 0) {
      columnSums(x, count, C, centre);
      for (let c = 0; c < C; c++) {
        store<f32>(centre + (c << 2), load<f32>(centre + (c << 2)) / <f32>count);
        store<f64>(totals + (c << 4), <f64>load<f32>(centre + (c << 2)));
        store<f64>(totals + (c << 4), 0, 8);
      }
    } else for (let c = 0; c < C; c++) store<f32>(centre + (c << 2), <f32>load<f64>(totals + (c << 4)));
    deviations(x, count, C, centre, plain, squares);
    const each = 1 / <f64>count, share = <f64>count / <f64>(before + count), spread = <f64>before * share;
    for (let c = 0; c < C; c++) {
      const t = totals + (c << 4), at = c << 2, mean = load<f64>(t);
      const sum = <f64>load<f32>(plain + at), moved = sum * each;
      const delta = <f64>load<f32>(centre + at) + moved - mean;
      store<f64>(t, mean + delta * share);
      store<f64>(t, load<f64>(t, 8) + <f64>load<f32>(squares + at) - sum * moved + delta * delta * spread, 8);
    }
    before += count;
    x += (<usize>count) * ld;
  }
}

/** mean[C] and biased variance[C] of M rows from their totals. */
export function moments(totals: usize, M: i32, C: i32, mean: usize, variance: usize): void {
  for (let c = 0; c < C; c++) {
    store<f32>(mean + (c << 2), <f32>load<f64>(totals + (c << 4)));
    store<f32>(variance + (c << 2), <f32>max(0, load<f64>(totals + (c << 4), 8) / <f64>M));
  }
}

/** Batch norm as an affine map: scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale. */
export function normScale(
  C: i32, gamma: usize, beta: usize, mean: usize, variance: usize, epsilon: f64, scale: usize, shift: usize,
): void {
  for (let at: usize = 0; at < (<usize>C) << 2; at += 4) {
    const s = <f64>load<f32>(gamma + at) / Math.sqrt(<f64>load<f32>(variance + at) + epsilon);
    store<f32>(scale + at, <f32>s);
    store<f32>(shift + at, <f32>(<f64>load<f32>(beta + at) - <f64>load<f32>(mean + at) * s));
  }
}

/** From the totals of affineGradSums over M rows: adds to dgamma and dbeta, and gives the slope and offset with which
 *  dx = scale * (d - mean(d) - xhat * mean(d * xhat)) is d * scale + x * slope + offset. */
export function normGrad(
  totals: usize, M: i32, C: i32, gamma: usize, mean: usize, variance: usize, epsilon: f64, dgamma: usize,
  dbeta: usize, slope: usize, offset: usize,
): void {
  for (let c = 0; c < C; c++) {
    const at = c << 2, sum = load<f64>(totals + (c << 4)), inverse = 1 / Math.sqrt(<f64>load<f32>(variance + at) + epsilon);
    const scale = <f64>load<f32>(gamma + at) * inverse, moment = load<f64>(totals + (c << 4), 8) * inverse;
    store<f32>(dgamma + at, load<f32>(dgamma + at) + <f32>moment);
    store<f32>(dbeta + at, load<f32>(dbeta + at) + <f32>sum);
    const s = (-scale * inverse * moment) / <f64>M;
    store<f32>(slope + at, <f32>s);
    store<f32>(offset + at, <f32>((-scale * sum) / <f64>M - <f64>load<f32>(mean + at) * s));
  }
}

// @ts-ignore: decorator
@inline
function affineRows(x: usize, y: usize, M: i32, C: i32, scale: usize, shift: usize, act: i32): void {
  const ld = (<usize>C) << 2, block = blockRows(C);
  for (let m = 0; m < M; m += block) {
    const rows = min(block, M - m);
    if (x != y && C > 16) touch(x, (<usize>rows) * ld, y);
    let c = 0;
    for (; c + 16 <= C; c += 16) {
      const at = c << 2;
      const s0 = v128.load(scale + at), s1 = v128.load(scale + at, 16);
      const s2 = v128.load(scale + at, 32), s3 = v128.load(scale + at, 48);
      const t0 = v128.load(shift + at), t1 = v128.load(shift + at, 16);
      const t2 = v128.load(shift + at, 32), t3 = v128.load(shift + at, 48);
      let p = x + at, q = y + at;
      for (let r = 0; r < rows; r++, p += ld, q += ld) {
        v128.store(q, activate(madd(v128.load(p), s0, t0), act));
        v128.store(q, activate(madd(v128.load(p, 16), s1, t1), act), 16);
        v128.store(q, activate(madd(v128.load(p, 32), s2, t2), act), 32);
        v128.store(q, activate(madd(v128.load(p, 48), s3, t3), act), 48);
      }
    }
    for (; c < C; c += 4) {
      const lanes = C - c, at = c << 2, s = loadPart(scale + at, lanes), t = loadPart(shift + at, lanes);
      let p = x + at, q = y + at;
      for (let r = 0; r < rows; r++, p += ld, q += ld)
        storePart(q, activate(madd(loadPart(p, lanes), s, t), act), lanes);
    }
    x += (<usize>rows) * ld;
    y += (<usize>rows) * ld;
  }
}

/** y[M,C] = rest + x * scale + shift: the end of a residual unit. */
export function affineAdd(x: usize, rest: usize, y: usize, M: i32, C: i32, scale: usize, shift: usize): void {
  for (let m = 0; m < M; m++) {
    for (let c = 0; c < C; c += 4) {
      const lanes = C - c, at = c << 2;
      const z = madd(loadPart(x + at, lanes), loadPart(scale + at, lanes), loadPart(shift + at, lanes));
      storePart(y + at, f32x4.add(loadPart(rest + at, lanes), z), lanes);
    }
    x += C << 2;
    rest += C << 2;
    y += C << 2;
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
  x: usize, dy: usize, keep: usize, M: i32, C: i32, scale: usize, shift: usize, centre: usize, totals: usize, act: i32,
  write: bool,
): void {
  const ld = (<usize>C) << 2, block = max(8, blockRows(C) >> 1);
  for (let m = 0; m < M; m += block) {
    const rows = min(block, M - m);
    touch(x, (<usize>rows) * ld, totals + (C << 4));
    let c = 0;
    for (; c + 8 <= C; c += 8) {
      const at = c << 2;
      const a0 = v128.load(scale + at), a1 = v128.load(scale + at, 16);
      const b0 = v128.load(shift + at), b1 = v128.load(shift + at, 16);
      const mu0 = v128.load(centre + at), mu1 = v128.load(centre + at, 16);
      let p0 = f32x4.splat(0), p1 = p0, q0 = p0, q1 = p0, p = x + at, q = dy + at, k = keep + at;
      for (let r = 0; r < rows; r++, p += ld, q += ld, k += ld) {
        const v0 = v128.load(p), d0 = through(v128.load(q), madd(v0, a0, b0), act);
        p0 = f32x4.add(p0, d0);
        q0 = madd(d0, f32x4.sub(v0, mu0), q0);
        if (write) v128.store(k, d0);
        const v1 = v128.load(p, 16), d1 = through(v128.load(q, 16), madd(v1, a1, b1), act);
        p1 = f32x4.add(p1, d1);
        q1 = madd(d1, f32x4.sub(v1, mu1), q1);
        if (write) v128.store(k, d1, 16);
      }
      addLanes(totals + (c << 4), p0, q0, 4);
      addLanes(totals + (c << 4) + 64, p1, q1, 4);
    }
    for (; c < C; c += 4) {
      const lanes = C - c, at = c << 2;
      const a = loadPart(scale + at, lanes), b = loadPart(shift + at, lanes), mu = loadPart(centre + at, lanes);
      let p = x + at, q = dy + at, k = keep + at, plain = f32x4.splat(0), moment = f32x4.splat(0);
      for (let r = 0; r < rows; r++, p += ld, q += ld, k += ld) {
        const v = loadPart(p, lanes), d = through(loadPart(q, lanes), madd(v, a, b), act);
        plain = f32x4.add(plain, d);
        moment = madd(d, f32x4.sub(v, mu), moment);
        if (write) storePart(k, d, lanes);
      }
      addLanes(totals + (c << 4), plain, moment, lanes);
    }
    x += (<usize>rows) * ld;
    dy += (<usize>rows) * ld;
    if (write) keep += (<usize>rows) * ld;
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

/** Adds to totals, per channel as float64 pairs (and room for one more): sum of d and of d * (x - centre), where
 *  d = dy * act'(x * scale + shift). Writes d to `keep`, which may be dy itself, unless that is 0. */
export function affineGradSums(
  x: usize, dy: usize, keep: usize, M: i32, C: i32, scale: usize, shift: usize, centre: usize, totals: usize, act: i32,
): void {
  if (keep) {
    if (act == LINEAR) gradSums(x, dy, keep, M, C, scale, shift, centre, totals, LINEAR, true);
    else if (act == RELU) gradSums(x, dy, keep, M, C, scale, shift, centre, totals, RELU, true);
    else gradSums(x, dy, keep, M, C, scale, shift, centre, totals, HSWISH, true);
  } else if (act == LINEAR) gradSums(x, dy, 0, M, C, scale, shift, centre, totals, LINEAR, false);
  else if (act == RELU) gradSums(x, dy, 0, M, C, scale, shift, centre, totals, RELU, false);
  else gradSums(x, dy, 0, M, C, scale, shift, centre, totals, HSWISH, false);
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
