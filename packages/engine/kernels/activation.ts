// What is done to values between one layer and the next. Kernels take it as a number and make a loop for each.
import { madd } from './simd';

/** Values as they are: no scale, shift or bias either. */
export const PLAIN: i32 = -1;
export const LINEAR: i32 = 0;
export const RELU: i32 = 1;
export const HSWISH: i32 = 2;
/** Of products: linear, added to what is at their place already. */
export const ADD: i32 = 3;

/** NaN stays NaN. (pmin and pmax are one instruction each, min and max, which order zeros, six.) */
// @ts-ignore: decorator
@inline
export function activate(z: v128, act: i32): v128 {
  if (act == RELU) return f32x4.pmax(z, f32x4.splat(0));
  if (act == HSWISH) {
    const gate = f32x4.pmin(f32x4.pmax(f32x4.add(z, f32x4.splat(3)), f32x4.splat(0)), f32x4.splat(6));
    return f32x4.mul(f32x4.mul(z, gate), f32x4.splat(<f32>(1.0 / 6.0)));
  }
  return z;
}

/** act(v * scale + shift), or v when that is PLAIN. */
// @ts-ignore: decorator
@inline
export function normalised(v: v128, scale: v128, shift: v128, act: i32): v128 {
  return act == PLAIN ? v : activate(madd(v, scale, shift), act);
}
