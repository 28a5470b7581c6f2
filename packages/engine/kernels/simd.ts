// Small vocabulary shared by the kernels. All addresses are byte addresses in TensorFlow.js's own heap, all sizes
// counts of float32. Nothing here allocates, and nothing may use static data: it would lie inside that heap.

/** a * b + c, fused in the relaxed build. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return v128.relaxed_madd<f32>(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** Loads up to 4 floats, the missing lanes zero; never reads past them. */
// @ts-ignore: decorator
@inline
export function loadPart(p: usize, lanes: i32): v128 {
  if (lanes >= 4) return v128.load(p);
  let v = v128.load32_zero(p);
  if (lanes > 1) v = f32x4.replace_lane(v, 1, load<f32>(p, 4));
  if (lanes > 2) v = f32x4.replace_lane(v, 2, load<f32>(p, 8));
  return v;
}

/** Stores the first `lanes` (1..4) floats of v. */
// @ts-ignore: decorator
@inline
export function storePart(p: usize, v: v128, lanes: i32): void {
  if (lanes >= 4) {
    v128.store(p, v);
    return;
  }
  store<f32>(p, f32x4.extract_lane(v, 0));
  if (lanes > 1) store<f32>(p, f32x4.extract_lane(v, 1), 4);
  if (lanes > 2) store<f32>(p, f32x4.extract_lane(v, 2), 8);
}

/** Reads one vector of every cache line from p to p + bytes, in order: memory streams at full speed that way, which
 *  strided passes over the same data would not. What was read goes to `sink`, 16 bytes nobody looks at. */
export function touch(p: usize, bytes: usize, sink: usize): void {
  let v = f32x4.splat(0);
  for (const end = p + bytes; p + 16 <= end; p += 64) v = v128.or(v, v128.load(p));
  v128.store(sink, v);
}
