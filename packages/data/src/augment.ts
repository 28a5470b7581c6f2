import type { Rng } from '@ntaa/random';

export interface AugmentPolicy {
  /** Mirror horizontally half of the time. */
  flip: boolean;
  /** Largest rotation either way, degrees. */
  rotate: number;
  /** Largest relative change of size: 0.25 draws from 1/1.25 .. 1.25, evenly in the logarithm. */
  scale: number;
  /** Largest shift either way, as a fraction of the side. */
  translate: number;
  /** Largest relative change of brightness, contrast and saturation, each: 0.2 draws from 0.8 .. 1.2. */
  color: number;
  /** Probability of erasing a rectangle of 2 to 25% of the area (it becomes the mean colour, 0). */
  erase: number;
  /** What lies outside the image: its border, or a colour 0..255. */
  fill: 'edge' | readonly number[];
}
export interface ImageSize {
  width: number;
  height: number;
}

// Working memory of one call; JavaScript runs one at a time.
const inverse = new Float64Array(6);
const color = new Float64Array(12);
const rgb = new Float64Array(3);

/**
 * A random variant of an image in one pass: affine (bilinear), flip, colour, normalisation; then erasing.
 * Draws the same number of random numbers whatever the policy.
 * @param image uint8 [height, width, 3]
 * @param out float32; [height, width, 3] are written from `offset` on, as (x / 255 - mean) / std.
 */
export function augment(
  image: Uint8Array,
  size: ImageSize,
  rng: Rng,
  policy: AugmentPolicy,
  out: Float32Array,
  offset: number,
  mean: ArrayLike<number>,
  std: ArrayLike<number>,
): void {
  drawInverseAffine(rng, policy, size);
  drawColor(rng, policy, image);
  warp(image, size, policy.fill, out, offset, mean, std);
  erase(rng, policy, size, out, offset);
}

/** The same without randomness: (x / 255 - mean) / std. */
export function normalise(
  image: Uint8Array,
  out: Float32Array,
  offset: number,
  mean: ArrayLike<number>,
  std: ArrayLike<number>,
): void {
  for (let c = 0; c < 3; c++) {
    const [scale, shift] = [1 / (255 * std[c]!), -mean[c]! / std[c]!];
    for (let i = c; i < image.length; i += 3) out[offset + i] = image[i]! * scale + shift;
  }
}

const symmetric = (rng: Rng, largest: number) => (2 * rng.uniform() - 1) * largest;

/** Where in the source the pixel (x, y) of the result lies: (a x + b y + c, d x + e y + f). */
function drawInverseAffine(rng: Rng, policy: AugmentPolicy, { width, height }: ImageSize): void {
  const angle = (symmetric(rng, policy.rotate) * Math.PI) / 180;
  const zoom = (1 + policy.scale) ** symmetric(rng, 1);
  const shiftX = symmetric(rng, policy.translate) * width;
  const shiftY = symmetric(rng, policy.translate) * height;
  const mirror = rng.uniform() < 0.5 && policy.flip ? -1 : 1;
  const [cos, sin] = [Math.cos(angle) / zoom, Math.sin(angle) / zoom];
  const [centreX, centreY] = [(width - 1) / 2, (height - 1) / 2];
  const [a, b, d, e] = [cos * mirror, sin * mirror, -sin, cos];
  inverse[0] = a;
  inverse[1] = b;
  inverse[2] = centreX - a * (centreX + shiftX) - b * (centreY + shiftY);
  inverse[3] = d;
  inverse[4] = e;
  inverse[5] = centreY - d * (centreX + shiftX) - e * (centreY + shiftY);
}

/** Brightness, contrast about the image's mean grey and saturation are one affine map of RGB: 3 rows of 4. */
function drawColor(rng: Rng, policy: AugmentPolicy, image: Uint8Array): void {
  const brightness = 1 + symmetric(rng, policy.color);
  const contrast = 1 + symmetric(rng, policy.color);
  const saturation = 1 + symmetric(rng, policy.color);
  const weights = [0.299, 0.587, 0.114];
  let grey = 0;
  if (contrast !== 1) {
    let [r, g, b] = [0, 0, 0];
    for (let i = 0; i < image.length; i += 3) {
      r += image[i]!;
      g += image[i + 1]!;
      b += image[i + 2]!;
    }
    grey = ((0.299 * r + 0.587 * g + 0.114 * b) * 3) / image.length;
  }
  for (let c = 0; c < 3; c++) {
    for (let k = 0; k < 3; k++)
      color[c * 4 + k] =
        brightness * contrast * ((1 - saturation) * weights[k]! + (c === k ? saturation : 0));
    color[c * 4 + 3] = brightness * (1 - contrast) * grey;
  }
}

function warp(
  image: Uint8Array,
  { width, height }: ImageSize,
  fill: AugmentPolicy['fill'],
  out: Float32Array,
  offset: number,
  mean: ArrayLike<number>,
  std: ArrayLike<number>,
): void {
  const [a, b, c, d, e, f] = inverse as unknown as [number, number, number, number, number, number];
  const [rr, rg, rb, r1, gr, gg, gb, g1, br, bg, bb, b1] = color as unknown as number[] & { length: 12 };
  const [scaleR, scaleG, scaleB] = [1 / (255 * std[0]!), 1 / (255 * std[1]!), 1 / (255 * std[2]!)];
  const [shiftR, shiftG, shiftB] = [-mean[0]! / std[0]!, -mean[1]! / std[1]!, -mean[2]! / std[2]!];
  const row = width * 3;
  let at = offset;
  for (let y = 0; y < height; y++) {
    let sourceX = b * y + c;
    let sourceY = e * y + f;
    for (let x = 0; x < width; x++, at += 3, sourceX += a, sourceY += d) {
      const x0 = Math.floor(sourceX);
      const y0 = Math.floor(sourceY);
      let red: number, green: number, blue: number;
      if (x0 >= 0 && y0 >= 0 && x0 < width - 1 && y0 < height - 1) {
        const fx = sourceX - x0;
        const fy = sourceY - y0;
        const w00 = (1 - fx) * (1 - fy);
        const w01 = fx * (1 - fy);
        const w10 = (1 - fx) * fy;
        const w11 = fx * fy;
        const i = y0 * row + x0 * 3;
        red = image[i]! * w00 + image[i + 3]! * w01 + image[i + row]! * w10 + image[i + row + 3]! * w11;
        green =
          image[i + 1]! * w00 + image[i + 4]! * w01 + image[i + row + 1]! * w10 + image[i + row + 4]! * w11;
        blue =
          image[i + 2]! * w00 + image[i + 5]! * w01 + image[i + row + 2]! * w10 + image[i + row + 5]! * w11;
      } else {
        sampleBorder(image, width, height, sourceX, sourceY, fill);
        red = rgb[0]!;
        green = rgb[1]!;
        blue = rgb[2]!;
      }
      const r = rr! * red + rg! * green + rb! * blue + r1!;
      const g = gr! * red + gg! * green + gb! * blue + g1!;
      const bl = br! * red + bg! * green + bb! * blue + b1!;
      out[at] = (r < 0 ? 0 : r > 255 ? 255 : r) * scaleR + shiftR;
      out[at + 1] = (g < 0 ? 0 : g > 255 ? 255 : g) * scaleG + shiftG;
      out[at + 2] = (bl < 0 ? 0 : bl > 255 ? 255 : bl) * scaleB + shiftB;
    }
  }
}

/** Bilinear where a neighbour may lie outside; the result is left in `rgb`. */
function sampleBorder(
  image: Uint8Array,
  width: number,
  height: number,
  x: number,
  y: number,
  fill: AugmentPolicy['fill'],
): void {
  const x0 = Math.floor(x);
  const y0 = Math.floor(y);
  rgb.fill(0);
  for (let k = 0; k < 4; k++) {
    const xi = x0 + (k & 1);
    const yi = y0 + (k >> 1);
    const weight = (k & 1 ? x - x0 : 1 - x + x0) * (k >> 1 ? y - y0 : 1 - y + y0);
    const inside = xi >= 0 && yi >= 0 && xi < width && yi < height;
    const cx = xi < 0 ? 0 : xi >= width ? width - 1 : xi;
    const cy = yi < 0 ? 0 : yi >= height ? height - 1 : yi;
    for (let ch = 0; ch < 3; ch++) {
      const value = inside || fill === 'edge' ? image[(cy * width + cx) * 3 + ch]! : fill[ch]!;
      rgb[ch]! += weight * value;
    }
  }
}

function erase(
  rng: Rng,
  policy: AugmentPolicy,
  { width, height }: ImageSize,
  out: Float32Array,
  offset: number,
): void {
  const hit = rng.uniform() < policy.erase;
  const area = (0.02 + 0.23 * rng.uniform()) * width * height;
  const aspect = 3.3 ** symmetric(rng, 1);
  const w = Math.max(1, Math.min(width, Math.round(Math.sqrt(area * aspect))));
  const h = Math.max(1, Math.min(height, Math.round(Math.sqrt(area / aspect))));
  const left = rng.int(width - w + 1);
  const top = rng.int(height - h + 1);
  if (!hit) return;
  for (let y = top; y < top + h; y++)
    out.fill(0, offset + (y * width + left) * 3, offset + (y * width + left + w) * 3);
}
