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
  /**
   * Share of the views whose geometry is a mirror and a shift by whole pixels; default 0. All others are interpolated,
   * which makes them smoother than the images that the network will answer.
   */
  crisp?: number;
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
const bounds = new Float64Array(6);
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
  const { crisp = 0 } = policy;
  const drawn = rng.uniform();
  const whole = drawn < crisp;
  // What is left of the draw is as even as the whole of it.
  const turn = whole ? 0 : (2 * (drawn - crisp)) / (1 - crisp) - 1;
  const angle = (turn * policy.rotate * Math.PI) / 180;
  const size = symmetric(rng, 1);
  const zoom = whole ? 1 : (1 + policy.scale) ** size;
  const snap = whole ? Math.round : (x: number) => x;
  const shiftX = snap(symmetric(rng, policy.translate) * width);
  const shiftY = snap(symmetric(rng, policy.translate) * height);
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
  foldNormalisation(mean, std);
  const [a, b, c] = [inverse[0]!, inverse[1]!, inverse[2]!];
  const [d, e, f] = [inverse[3]!, inverse[4]!, inverse[5]!];
  const [rr, rg, rb, r1] = [color[0]!, color[1]!, color[2]!, color[3]!];
  const [gr, gg, gb, g1] = [color[4]!, color[5]!, color[6]!, color[7]!];
  const [br, bg, bb, b1] = [color[8]!, color[9]!, color[10]!, color[11]!];
  const [lowR, lowG, lowB] = [bounds[0]!, bounds[1]!, bounds[2]!];
  const [highR, highG, highB] = [bounds[3]!, bounds[4]!, bounds[5]!];
  const edge = fill === 'edge' && width > 1 && height > 1;
  const [lastX, lastY, row] = [width - 1, height - 1, width * 3];
  let at = offset;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 3) {
      let sourceX = a * x + b * y + c;
      let sourceY = d * x + e * y + f;
      let red: number, green: number, blue: number;
      if (edge || (sourceX >= 0 && sourceY >= 0 && sourceX < lastX && sourceY < lastY)) {
        // Repeating the border is the same as looking up the nearest point of the image.
        sourceX = sourceX < 0 ? 0 : sourceX > lastX ? lastX : sourceX;
        sourceY = sourceY < 0 ? 0 : sourceY > lastY ? lastY : sourceY;
        let x0 = sourceX | 0;
        let y0 = sourceY | 0;
        if (x0 === lastX) x0--;
        if (y0 === lastY) y0--;
        const fx = sourceX - x0;
        const fy = sourceY - y0;
        const i = y0 * row + x0 * 3;
        const j = i + row;
        const w11 = fx * fy;
        const w01 = fx - w11;
        const w10 = fy - w11;
        const w00 = 1 - fx - w10;
        red = image[i]! * w00 + image[i + 3]! * w01 + image[j]! * w10 + image[j + 3]! * w11;
        green = image[i + 1]! * w00 + image[i + 4]! * w01 + image[j + 1]! * w10 + image[j + 4]! * w11;
        blue = image[i + 2]! * w00 + image[i + 5]! * w01 + image[j + 2]! * w10 + image[j + 5]! * w11;
      } else {
        sampleBorder(image, width, height, sourceX, sourceY, fill);
        red = rgb[0]!;
        green = rgb[1]!;
        blue = rgb[2]!;
      }
      const r = rr * red + rg * green + rb * blue + r1;
      const g = gr * red + gg * green + gb * blue + g1;
      const v = br * red + bg * green + bb * blue + b1;
      out[at] = r < lowR ? lowR : r > highR ? highR : r;
      out[at + 1] = g < lowG ? lowG : g > highG ? highG : g;
      out[at + 2] = v < lowB ? lowB : v > highB ? highB : v;
    }
  }
}

/** Makes `color` map to normalised values, and `bounds` what 0 and 255 become. */
function foldNormalisation(mean: ArrayLike<number>, std: ArrayLike<number>): void {
  for (let c = 0; c < 3; c++) {
    const scale = 1 / (255 * std[c]!);
    const shift = -mean[c]! / std[c]!;
    for (let k = 0; k < 4; k++) color[c * 4 + k]! *= scale;
    color[c * 4 + 3]! += shift;
    bounds[c] = shift;
    bounds[c + 3] = 255 * scale + shift;
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
