import type { Rng } from '@ntaa/random';

export interface AugmentPolicy {
  /** Mirror horizontally half of the time. */
  flip: boolean;
  /** Largest rotation either way, degrees. */
  rotate: number;
  /** Largest relative change of size: 0.2 draws from 1/1.2 .. 1.2. */
  scale: number;
  /** Largest shift either way, as a fraction of the side. */
  translate: number;
  /** Largest relative change of brightness, contrast and saturation. */
  color: number;
  /** Probability of erasing a random rectangle. */
  erase: number;
  /** What lies outside the image: its border, or a colour 0..255. */
  fill: 'edge' | readonly [number, number, number];
}
export interface ImageSize {
  width: number;
  height: number;
}

/** Writes a random variant of `image` (uint8 [h,w,3]), normalised as (x/255 - mean)/std, to out[offset..] (float32 [h,w,3]). */
export function augment(
  _image: Uint8Array,
  _size: ImageSize,
  _rng: Rng,
  _policy: AugmentPolicy,
  _out: Float32Array,
  _offset: number,
  _mean: ArrayLike<number>,
  _std: ArrayLike<number>,
): void {
  throw new Error('being written');
}

/** The same without randomness: (x/255 - mean)/std. */
export function normalise(
  _image: Uint8Array,
  _out: Float32Array,
  _offset: number,
  _mean: ArrayLike<number>,
  _std: ArrayLike<number>,
): void {
  throw new Error('being written');
}
