// Weight updates in place, and sums over them. These vectors are short: scalar arithmetic where order matters.
import { loadPart, madd, storePart } from './simd';

/** Sum of squares in float64. */
export function sumSquares(x: usize, count: i32): f64 {
  let sum: f64 = 0;
  for (const end = x + ((<usize>count) << 2); x < end; x += 4) {
    const v = <f64>load<f32>(x);
    sum += v * v;
  }
  return sum;
}

/** g = grad * scale + decay * w; v = momentum * v + g; w -= rate * (nesterov ? g + momentum * v : v). */
export function sgd(
  w: usize,
  grad: usize,
  v: usize,
  count: i32,
  scale: f32,
  decay: f32,
  momentum: f32,
  rate: f32,
  nesterov: bool,
): void {
  for (let i = 0; i < count; i++) {
    const at = i << 2;
    const g = load<f32>(grad + at) * scale + decay * load<f32>(w + at);
    const velocity = momentum * load<f32>(v + at) + g;
    store<f32>(v + at, velocity);
    store<f32>(w + at, load<f32>(w + at) - rate * (nesterov ? g + momentum * velocity : velocity));
  }
}

/** ema = decay * ema + (1 - decay) * x. */
export function ema(average: usize, x: usize, count: i32, decay: f32, rest: f32): void {
  for (let i = 0; i < count; i++) {
    const at = i << 2;
    store<f32>(average + at, decay * load<f32>(average + at) + rest * load<f32>(x + at));
  }
}

/** out[count,3] = what the channels' tables [3][256] make of bytes [count,3]. */
export function lookUp(bytes: usize, tables: usize, out: usize, count: i32): void {
  for (const end = bytes + 3 * (<usize>count); bytes < end; bytes += 3, out += 12) {
    store<f32>(out, load<f32>(tables + ((<usize>load<u8>(bytes)) << 2)));
    store<f32>(out, load<f32>(tables + ((<usize>load<u8>(bytes, 1)) << 2), 1024), 4);
    store<f32>(out, load<f32>(tables + ((<usize>load<u8>(bytes, 2)) << 2), 2048), 8);
  }
}

/** y[N,C] = mean over P rows of x[N,P,C]. */
export function poolMean(x: usize, y: usize, N: i32, P: i32, C: i32): void {
  const ld = (<usize>C) << 2,
    inverse = <f32>(1.0 / <f64>P);
  for (let n = 0; n < N; n++) {
    let c = 0;
    for (; c + 4 <= C; c += 4) {
      let p = x + (c << 2),
        sum = f32x4.splat(0);
      for (let i = 0; i < P; i++, p += ld) sum = f32x4.add(sum, v128.load(p));
      v128.store(y + (c << 2), f32x4.mul(sum, f32x4.splat(inverse)));
    }
    for (; c < C; c++) {
      let p = x + (c << 2),
        sum: f32 = 0;
      for (let i = 0; i < P; i++, p += ld) sum += load<f32>(p);
      store<f32>(y + (c << 2), sum * inverse);
    }
    x += <usize>P * ld;
    y += ld;
  }
}

/** x[N,P,C] = y[N,C] / P: the gradient of poolMean. */
export function poolMeanBack(y: usize, x: usize, N: i32, P: i32, C: i32): void {
  const inverse = f32x4.splat(<f32>(1.0 / <f64>P));
  for (let n = 0; n < N; n++) {
    for (let i = 0; i < P; i++) {
      for (let c = 0; c < C; c += 4) {
        const lanes = C - c;
        storePart(x + (c << 2), f32x4.mul(loadPart(y + (c << 2), lanes), inverse), lanes);
      }
      x += C << 2;
    }
    y += C << 2;
  }
}

/** y += x. */
export function add(x: usize, y: usize, count: i32): void {
  for (; count >= 4; count -= 4) {
    v128.store(y, f32x4.add(v128.load(y), v128.load(x)));
    x += 16;
    y += 16;
  }
  if (count > 0) storePart(y, f32x4.add(loadPart(y, count), loadPart(x, count)), count);
}

/** y[M,N] += x[N] in every row. */
export function addToRows(x: usize, y: usize, M: i32, N: i32): void {
  for (let m = 0; m < M; m++, y += N << 2) add(x, y, N);
}

/** y[N] += the sum of the rows of x[M,N]. */
export function addRows(x: usize, y: usize, M: i32, N: i32): void {
  for (let m = 0; m < M; m++, x += N << 2) add(x, y, N);
}

/** The first C channels of the centre of a kernel[size,size,ld], to out[(size - 2)^2, C]. */
export function crop(kernel: usize, out: usize, size: i32, C: i32, ld: i32): void {
  for (let i = 1; i < size - 1; i++)
    for (let j = 1; j < size - 1; j++, out += C << 2) memory.copy(out, kernel + ((<usize>(i * size + j)) * ld << 2), C << 2);
}

/** The gradient of crop: adds x[(size - 2)^2, C] to the centre of kernel[size,size,ld]. */
export function cropBack(x: usize, kernel: usize, size: i32, C: i32, ld: i32): void {
  for (let i = 1; i < size - 1; i++)
    for (let j = 1; j < size - 1; j++, x += C << 2) add(x, kernel + ((<usize>(i * size + j)) * ld << 2), C);
}

/** Whether madd rounds once: relaxed SIMD leaves that to the machine, and results depend on it. */
export function fused(x: f32): bool {
  const a = f32x4.splat(x),
    square = f32x4.mul(a, a);
  return f32x4.extract_lane(madd(a, a, f32x4.neg(square)), 0) != 0;
}
