// Depthwise convolutions. Output and input gradient read rows padded with zeros, [rows][pitch][C], so that no window
// needs to know where the image ends. The filter gradient reads planes: four channels of one image laid out as
// [rows][pitch][4]; sixteen channels (a cache line) are packed together, and everything proceeds in bands of rows, so
// that what was packed is used while it is in the first-level cache.
import { activate, HSWISH, LINEAR, normalised, PLAIN, RELU } from './activation';
import { loadPart, madd, storePart, touch } from './simd';

/** Output pixels in a band. */
const BAND: i32 = 64;

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

/** The first C channels of filter[k,k,ld], times scale[C] unless that is 0, to [ceil(C/4)][k*k][4], zero padded. */
export function packTaps(filter: usize, taps: usize, k: i32, C: i32, ld: i32, scale: usize): void {
  for (let c = 0; c < C; c += 4) {
    const s = scale ? loadPart(scale + (c << 2), C - c) : f32x4.splat(1);
    for (let t = 0; t < k * k; t++) {
      v128.store(taps, f32x4.mul(loadPart(filter + (((<usize>t) * ld + c) << 2), C - c), s));
      taps += 16;
    }
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

/** As packTaps, but phase by phase, each turned by half a turn: for the gradient in the input. */
export function packPhases(
  filter: usize, taps: usize, k: i32, C: i32, ld: i32, stride: i32, top: i32, left: i32,
): void {
  for (let ph = 0; ph < stride; ph++)
    for (let pw = 0; pw < stride; pw++) {
      const i0 = firstTap(ph, top, stride), j0 = firstTap(pw, left, stride);
      const rows = tapCount(i0, k, stride), columns = tapCount(j0, k, stride);
      for (let c = 0; c < C; c += 4)
        for (let i = rows - 1; i >= 0; i--)
          for (let j = columns - 1; j >= 0; j--) {
            const tap = (i0 + i * stride) * k + j0 + j * stride;
            v128.store(taps, loadPart(filter + (((<usize>tap) * ld + c) << 2), C - c));
            taps += 16;
          }
    }
}

/** Lines `from` .. from + lines - 1 of act(x[H,W,C] * scale + shift), or of x when `act` is PLAIN, each with `left`
 *  pixels before it and to a length of `line` bytes; zeros where there is no image. */
// @ts-ignore: decorator
@inline
function padLines(
  x: usize, out: usize, from: i32, lines: i32, H: i32, W: i32, C: i32, left: i32, line: usize, scale: usize,
  shift: usize, act: i32,
): void {
  const step = (<usize>C) << 2, before = step * left, body = step * W;
  for (let h = from; h < from + lines; h++, out += line) {
    if (h < 0 || h >= H) {
      memory.fill(out, 0, line);
      continue;
    }
    memory.fill(out, 0, before);
    memory.fill(out + before + body, 0, line - before - body);
    const image = x + (<usize>h) * body;
    if (act == PLAIN) {
      memory.copy(out + before, image, body);
      continue;
    }
    touch(image, body, out + before);
    let c = 0;
    for (; c + 16 <= C; c += 16) {
      const at = c << 2;
      const s0 = v128.load(scale + at), s1 = v128.load(scale + at, 16);
      const s2 = v128.load(scale + at, 32), s3 = v128.load(scale + at, 48);
      const t0 = v128.load(shift + at), t1 = v128.load(shift + at, 16);
      const t2 = v128.load(shift + at, 32), t3 = v128.load(shift + at, 48);
      let q = out + before + at, p = image + at;
      for (const end = p + body; p < end; p += step, q += step) {
        v128.store(q, activate(madd(v128.load(p), s0, t0), act));
        v128.store(q, activate(madd(v128.load(p, 16), s1, t1), act), 16);
        v128.store(q, activate(madd(v128.load(p, 32), s2, t2), act), 32);
        v128.store(q, activate(madd(v128.load(p, 48), s3, t3), act), 48);
      }
    }
    for (; c < C; c += 4) {
      const lanes = C - c, at = c << 2, s = loadPart(scale + at, lanes), t = loadPart(shift + at, lanes);
      let q = out + before + at, p = image + at;
      for (const end = p + body; p < end; p += step, q += step)
        storePart(q, activate(madd(loadPart(p, lanes), s, t), act), lanes);
    }
  }
}

export function pad(
  x: usize, out: usize, from: i32, lines: i32, H: i32, W: i32, C: i32, left: i32, line: usize, scale: usize,
  shift: usize, act: i32,
): void {
  if (act == PLAIN) padLines(x, out, from, lines, H, W, C, left, line, scale, shift, PLAIN);
  else if (act == LINEAR) padLines(x, out, from, lines, H, W, C, left, line, scale, shift, LINEAR);
  else if (act == RELU) padLines(x, out, from, lines, H, W, C, left, line, scale, shift, RELU);
  else padLines(x, out, from, lines, H, W, C, left, line, scale, shift, HSWISH);
}

/** Zeros around N images [H,W,C] that lie, or are to lie, in [rows][pitch][C] from (top, left) on. */
export function frame(x: usize, N: i32, H: i32, W: i32, C: i32, rows: i32, pitch: i32, top: i32, left: i32): void {
  const step = (<usize>C) << 2, line = step * pitch, before = step * left, body = step * W;
  for (let n = 0; n < N; n++) {
    memory.fill(x, 0, line * top);
    x += line * top;
    for (let h = 0; h < H; h++, x += line) {
      memory.fill(x, 0, before);
      memory.fill(x + before + body, 0, line - before - body);
    }
    memory.fill(x, 0, line * (rows - top - H));
    x += line * (rows - top - H);
  }
}

/** Four outputs of `lanes` channels, from `bias` on. What the loop loads and adds to must fit into the registers
 *  together, because V8 loads everything first. */
// @ts-ignore: decorator
@inline
function four(
  q: usize, h1: usize, h2: usize, h3: usize, t: usize, kr: i32, step: usize, span: usize, row: usize, to: usize,
  y1: usize, y2: usize, y3: usize, bias: v128, lanes: i32, act: i32,
): void {
  let a0 = bias, a1 = a0, a2 = a0, a3 = a0;
  for (let i = 0; i < kr; i++) {
    const end = q + span;
    while (q < end) {
      const tap = v128.load(t);
      a0 = madd(v128.load(q), tap, a0);
      a1 = madd(v128.load(q + h1), tap, a1);
      a2 = madd(v128.load(q + h2), tap, a2);
      a3 = madd(v128.load(q + h3), tap, a3);
      t += 16;
      q += step;
    }
    q += row - span;
  }
  storePart(to, activate(a0, act), lanes);
  storePart(to + y1, activate(a1, act), lanes);
  storePart(to + y2, activate(a2, act), lanes);
  storePart(to + y3, activate(a3, act), lanes);
}

/** The same for 3 x 3 taps at stride 1, where neighbours share what they read. */
// @ts-ignore: decorator
@inline
function four3x3(
  q: usize, h1: usize, h2: usize, h3: usize, t: usize, row: usize, to: usize, y1: usize, y2: usize, y3: usize,
  bias: v128, lanes: i32, act: i32,
): void {
  let a0 = bias, a1 = a0, a2 = a0, a3 = a0;
  const h4 = h2 + h2, h5 = h3 + h2;
  for (const end = t + 144; t < end; t += 48, q += row) {
    const w0 = v128.load(t), w1 = v128.load(t, 16), w2 = v128.load(t, 32);
    const x0 = v128.load(q), x1 = v128.load(q + h1), x2 = v128.load(q + h2), x3 = v128.load(q + h3);
    const x4 = v128.load(q + h4), x5 = v128.load(q + h5);
    a0 = madd(x0, w0, a0);
    a1 = madd(x1, w0, a1);
    a2 = madd(x2, w0, a2);
    a3 = madd(x3, w0, a3);
    a0 = madd(x1, w1, a0);
    a1 = madd(x2, w1, a1);
    a2 = madd(x3, w1, a2);
    a3 = madd(x4, w1, a3);
    a0 = madd(x2, w2, a0);
    a1 = madd(x3, w2, a1);
    a2 = madd(x4, w2, a2);
    a3 = madd(x5, w2, a3);
  }
  storePart(to, activate(a0, act), lanes);
  storePart(to + y1, activate(a1, act), lanes);
  storePart(to + y2, activate(a2, act), lanes);
  storePart(to + y3, activate(a3, act), lanes);
}

/** `rows` x `width` outputs of C channels: act(bias + windows of kr x kc taps), on rows of `row` bytes. Outputs are
 *  `yStep` bytes apart in a row, rows `yRow` bytes. */
// @ts-ignore: decorator
@inline
function correlate(
  x: usize, row: usize, taps: usize, kr: i32, kc: i32, stride: i32, y: usize, yStep: usize, yRow: usize, rows: i32,
  width: i32, C: i32, bias: usize, act: i32,
): void {
  const step = (<usize>C) << 2, hop = step * stride, span = step * kc, block = (<usize>kr * kc) << 4;
  // A row of fewer than four outputs makes its last one more than once.
  const i1 = min(1, width - 1), i2 = min(2, width - 1), i3 = min(3, width - 1);
  const h1 = hop * i1, h2 = hop * i2, h3 = hop * i3, y1 = yStep * i1, y2 = yStep * i2, y3 = yStep * i3;
  const zero = f32x4.splat(0), shared = kr == 3 && kc == 3 && stride == 1 && width >= 4;
  for (let r = 0; r < rows; r++) {
    for (let w = 0; w < width; w += 4) {
      const first = max(0, min(w, width - 4)), p = x + hop * first, out = y + yStep * first;
      let t = taps, at: usize = 0;
      for (; at + 16 <= step; at += 16, t += block) {
        const from = act == PLAIN ? zero : v128.load(bias + at);
        if (shared) four3x3(p + at, h1, h2, h3, t, row, out + at, y1, y2, y3, from, 4, act);
        else four(p + at, h1, h2, h3, t, kr, step, span, row, out + at, y1, y2, y3, from, 4, act);
      }
      if (at < step) {
        const lanes = (step - at) >> 2, from = act == PLAIN ? zero : loadPart(bias + at, lanes);
        four(p + at, h1, h2, h3, t, kr, step, span, row, out + at, y1, y2, y3, from, lanes, act);
      }
    }
    x += row * stride;
    y += yRow;
  }
}

// @ts-ignore: decorator
@inline
function images(
  x: usize, taps: usize, y: usize, N: i32, OH: i32, OW: i32, C: i32, k: i32, stride: i32, row: usize, image: usize,
  bias: usize, act: i32,
): void {
  const step = (<usize>C) << 2, yRow = step * OW;
  for (let n = 0; n < N; n++) {
    correlate(x, row, taps, k, k, stride, y, step, yRow, OH, OW, C, bias, act);
    x += image;
    y += yRow * OH;
  }
}

// A function each: V8 allocates registers worse in one that holds all these loops.
export function depthwisePlain(
  x: usize, taps: usize, y: usize, N: i32, OH: i32, OW: i32, C: i32, k: i32, stride: i32, row: usize, image: usize,
  bias: usize,
): void {
  images(x, taps, y, N, OH, OW, C, k, stride, row, image, bias, PLAIN);
}
export function depthwiseLinear(
  x: usize, taps: usize, y: usize, N: i32, OH: i32, OW: i32, C: i32, k: i32, stride: i32, row: usize, image: usize,
  bias: usize,
): void {
  images(x, taps, y, N, OH, OW, C, k, stride, row, image, bias, LINEAR);
}
export function depthwiseRelu(
  x: usize, taps: usize, y: usize, N: i32, OH: i32, OW: i32, C: i32, k: i32, stride: i32, row: usize, image: usize,
  bias: usize,
): void {
  images(x, taps, y, N, OH, OW, C, k, stride, row, image, bias, RELU);
}
export function depthwiseHswish(
  x: usize, taps: usize, y: usize, N: i32, OH: i32, OW: i32, C: i32, k: i32, stride: i32, row: usize, image: usize,
  bias: usize,
): void {
  images(x, taps, y, N, OH, OW, C, k, stride, row, image, bias, HSWISH);
}

/** y[N,OH,OW,C] = act(x correlated with packed taps + bias[C]), at any stride; x is padded, its rows of `row` bytes and
 *  its images `image` bytes apart. Without bias when `act` is PLAIN. */
export function depthwise(
  x: usize, taps: usize, y: usize, N: i32, OH: i32, OW: i32, C: i32, k: i32, stride: i32, row: usize, image: usize,
  bias: usize,
  act: i32,
): void {
  if (act == PLAIN) depthwisePlain(x, taps, y, N, OH, OW, C, k, stride, row, image, bias);
  else if (act == LINEAR) depthwiseLinear(x, taps, y, N, OH, OW, C, k, stride, row, image, bias);
  else if (act == RELU) depthwiseRelu(x, taps, y, N, OH, OW, C, k, stride, row, image, bias);
  else depthwiseHswish(x, taps, y, N, OH, OW, C, k, stride, row, image, bias);
}

/** dx[H,W,C] of one image, at any stride: input positions of one phase see the same taps, on neighbouring values of dy,
 *  which has `border` zero pixels above and to the left, rows of `row` bytes, and zeros enough behind. */
export function depthwiseBackInput(
  dy: usize, taps: usize, dx: usize, H: i32, W: i32, C: i32, k: i32, stride: i32, top: i32, left: i32, row: usize,
  border: i32,
): void {
  const step = (<usize>C) << 2, dxRow = step * W, blocks = (C + 3) >> 2;
  for (let ph = 0; ph < min(stride, H); ph++)
    for (let pw = 0; pw < min(stride, W); pw++) {
      const i0 = firstTap(ph, top, stride), j0 = firstTap(pw, left, stride);
      const kr = tapCount(i0, k, stride), kc = tapCount(j0, k, stride);
      const r0 = border + (ph + top - i0) / stride - (kr - 1), s0 = border + (pw + left - j0) / stride - (kc - 1);
      correlate(
        dy + row * r0 + step * s0, row, taps, kr, kc, 1, dx + dxRow * ph + step * pw, step * stride, dxRow * stride,
        (H - ph + stride - 1) / stride, (W - pw + stride - 1) / stride, C, 0, PLAIN,
      );
      taps += (kr * kc * blocks) << 4;
    }
}

/** Adds to the sums of a filter row of 3 taps, two pixels at a time: six accumulators hide the latency of the additions,
 *  and fit into the registers together with what the loop loads. */
function taps3(plane: usize, dy: usize, sums: usize, rows: i32, OW: i32, row: usize, stride: i32): void {
  const step = (<usize>stride) << 4;
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, t0 = s0, t1 = s0, t2 = s0;
  for (let r = 0; r < rows; r++) {
    let p = plane;
    const end = dy + (OW << 4);
    while (dy + 32 <= end) {
      const q = p + step, d = v128.load(dy), e = v128.load(dy, 16);
      s0 = madd(v128.load(p), d, s0);
      s1 = madd(v128.load(p, 16), d, s1);
      s2 = madd(v128.load(p, 32), d, s2);
      t0 = madd(v128.load(q), e, t0);
      t1 = madd(v128.load(q, 16), e, t1);
      t2 = madd(v128.load(q, 32), e, t2);
      p = q + step;
      dy += 32;
    }
    if (dy < end) {
      const d = v128.load(dy);
      s0 = madd(v128.load(p), d, s0);
      s1 = madd(v128.load(p, 16), d, s1);
      s2 = madd(v128.load(p, 32), d, s2);
      dy += 16;
    }
    plane += row * stride;
  }
  v128.store(sums, f32x4.add(v128.load(sums), f32x4.add(s0, t0)));
  v128.store(sums, f32x4.add(v128.load(sums, 16), f32x4.add(s1, t1)), 16);
  v128.store(sums, f32x4.add(v128.load(sums, 32), f32x4.add(s2, t2)), 32);
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
          if (k == 3)
            for (let i = 0; i < 3; i++) taps3(p + row * i, d, s + 48 * i, count, OW, row, stride);
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
