import type { Rng } from '@ntaa/random';
import type { ImageSize } from './augment.js';

/** What a mixed image shows: `share` of its own label, the rest of the label of the image at place `partner`. */
export interface Mixed {
  share: number;
  partner: (place: number) => number;
}

/**
 * Mixes the images of a batch in pairs, first with last: half of the time a rectangle of one pasted into the other (CutMix,
 * Yun et al., ICCV 2019), else a blend (mixup, Zhang et al., ICLR 2018). What is drawn is relative to the image, so
 * that the same numbers mix a batch alike at every resolution. In place.
 * @param images float32 [n, height, width, 3]
 */
export function mix(images: Float32Array, n: number, { width, height }: ImageSize, rng: Rng): Mixed {
  const stride = width * height * 3;
  const [pasted, drawn, x, y] = [rng.uniform() < 0.5, rng.uniform(), rng.uniform(), rng.uniform()];
  const partner = (place: number): number => n - 1 - place;
  const pairs = n >> 1;
  if (!pasted) {
    // Beta(1/2, 1/2): mostly near 0 or 1, so that most images stay what they were.
    const share = Math.sin((Math.PI * drawn) / 2) ** 2;
    for (let i = 0; i < pairs; i++) {
      const [a, b] = [i * stride, partner(i) * stride];
      for (let k = 0; k < stride; k++) {
        const [own, other] = [images[a + k]!, images[b + k]!];
        images[a + k] = other + share * (own - other);
        images[b + k] = own + share * (other - own);
      }
    }
    return { share, partner };
  }
  // A rectangle of `drawn` of the area and the image's aspect; its corners move in steps of 1/8 so that every resolution cuts the same.
  const side = Math.round(8 * Math.sqrt(drawn)) / 8;
  const [left, top] = [Math.round(8 * x * (1 - side)) / 8, Math.round(8 * y * (1 - side)) / 8];
  const [from, to] = [Math.round(left * width), Math.round((left + side) * width)];
  for (let i = 0; i < pairs; i++)
    for (let row = Math.round(top * height); row < Math.round((top + side) * height); row++) {
      const [a, b] = [i * stride + 3 * row * width, partner(i) * stride + 3 * row * width];
      for (let k = 3 * from; k < 3 * to; k++) {
        const own = images[a + k]!;
        images[a + k] = images[b + k]!;
        images[b + k] = own;
      }
    }
  return { share: 1 - side * side, partner };
}
