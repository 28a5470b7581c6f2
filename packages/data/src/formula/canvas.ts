/**
 * A small anti-aliased rasteriser. Families draw in unit coordinates: [-1, 1] x [-1, 1] is the image, y pointing down;
 * the canvas applies the instance's pose, computes a coverage mask and composites an ink through it.
 */
import type { Colour, Ink } from './colour.js';
import { hash2, valueNoise } from './arithmetic.js';

/** x' = xx * x + xy * y + dx, y' = yx * x + yy * y + dy. */
export interface Pose {
  xx: number;
  xy: number;
  yx: number;
  yy: number;
  dx: number;
  dy: number;
}

export const IDENTITY: Pose = { xx: 1, xy: 0, yx: 0, yy: 1, dx: 0, dy: 0 };

const SUBLINES = 4;

export class Canvas {
  /** RGB in [0, 1], row-major, 3 x size x size values interleaved. */
  readonly rgb: Float32Array;
  readonly size: number;
  pose: Pose = IDENTITY;
  readonly #mask: Float32Array;
  readonly #crossings: number[] = [];

  constructor(size: number) {
    this.size = size;
    this.rgb = new Float32Array(size * size * 3);
    this.#mask = new Float32Array(size * size);
  }

  /** Fills the whole image, ignoring the pose. `shade(x, y)` in unit coordinates mixes the ink's two colours. */
  flood(ink: Ink, shade: (x: number, y: number) => number = (x, y) => ink.along(x, y)): void {
    const { size, rgb } = this;
    for (let j = 0, at = 0; j < size; j++) {
      for (let i = 0; i < size; i++, at += 3) {
        const mix = shade((2 * i + 1) / size - 1, (2 * j + 1) / size - 1);
        for (let c = 0; c < 3; c++) rgb[at + c] = ink.from[c]! + (ink.to[c]! - ink.from[c]!) * mix;
      }
    }
  }

  /** Fills a closed polygon, even-odd rule; `points` is x0, y0, x1, y1, ... */
  fill(points: readonly number[], ink: Ink): void {
    const posed = this.#toPixels(points);
    for (let line = 0; line < this.size * SUBLINES; line++) this.#fillLine(posed, line);
    this.#composite(ink);
  }

  /** Strokes a polyline with round joins; `width` in unit coordinates, not scaled by the pose. */
  stroke(points: readonly number[], width: number, ink: Ink, closed = false): void {
    const posed = this.#toPixels(points);
    const radius = Math.max(0.35, (width * this.size) / 4);
    const n = posed.length;
    for (let i = 0; i + 3 < n; i += 2)
      this.#segment(posed[i]!, posed[i + 1]!, posed[i + 2]!, posed[i + 3]!, radius);
    if (closed && n > 4) this.#segment(posed[n - 2]!, posed[n - 1]!, posed[0]!, posed[1]!, radius);
    this.#composite(ink);
  }

  /** Adds `weight` of coverage at each point, spread bilinearly over four pixels. */
  scatter(points: readonly number[], weight: number, ink: Ink): void {
    const { size } = this;
    const mask = this.#mask;
    const posed = this.#toPixels(points);
    for (let k = 0; k < posed.length; k += 2) {
      const x = posed[k]! - 0.5;
      const y = posed[k + 1]! - 0.5;
      const i = Math.floor(x);
      const j = Math.floor(y);
      if (i < 0 || j < 0 || i >= size - 1 || j >= size - 1) continue;
      const u = x - i;
      const v = y - j;
      const at = j * size + i;
      mask[at]! += weight * (1 - u) * (1 - v);
      mask[at + 1]! += weight * u * (1 - v);
      mask[at + size]! += weight * (1 - u) * v;
      mask[at + size + 1]! += weight * u * v;
    }
    this.#composite(ink);
  }

  /** Clouds: value noise of the given cell count added to every channel alike. */
  cloud(cells: number, strength: number, seed: number): void {
    const { size, rgb } = this;
    for (let j = 0, at = 0; j < size; j++)
      for (let i = 0; i < size; i++, at += 3) {
        const n = (valueNoise((i * cells) / size, (j * cells) / size, seed) - 0.5) * strength;
        for (let c = 0; c < 3; c++) rgb[at + c]! += n;
      }
  }

  /** Independent noise for every pixel and channel. */
  grain(strength: number, seed: number): void {
    for (let k = 0; k < this.rgb.length; k++) this.rgb[k]! += (hash2(k, 0, seed) - 0.5) * strength;
  }

  /** Replaces every pixel by its luminance. */
  desaturate(): void {
    const { rgb } = this;
    for (let k = 0; k < rgb.length; k += 3)
      rgb.fill(luminance([rgb[k]!, rgb[k + 1]!, rgb[k + 2]!]), k, k + 3);
  }

  /** Writes size x size x 3 bytes. */
  write(out: Uint8Array): void {
    const { rgb } = this;
    for (let k = 0; k < rgb.length; k++) out[k] = Math.floor(Math.min(1, Math.max(0, rgb[k]!)) * 255 + 0.5);
  }

  #toPixels(points: readonly number[]): number[] {
    const { xx, xy, yx, yy, dx, dy } = this.pose;
    const half = this.size / 2;
    const posed = new Array<number>(points.length);
    for (let k = 0; k < points.length; k += 2) {
      const x = points[k]!;
      const y = points[k + 1]!;
      posed[k] = (xx * x + xy * y + dx + 1) * half;
      posed[k + 1] = (yx * x + yy * y + dy + 1) * half;
    }
    return posed;
  }

  /** Exact horizontal coverage of one of SUBLINES lines through a pixel row. */
  #fillLine(posed: readonly number[], line: number): void {
    const { size } = this;
    const y = (line + 0.5) / SUBLINES;
    const crossings = this.#crossings;
    crossings.length = 0;
    let ax = posed[posed.length - 2]!;
    let ay = posed[posed.length - 1]!;
    for (let k = 0; k < posed.length; k += 2) {
      const bx = posed[k]!;
      const by = posed[k + 1]!;
      if (ay <= y !== by <= y) crossings.push(ax + ((bx - ax) * (y - ay)) / (by - ay));
      ax = bx;
      ay = by;
    }
    crossings.sort((p, q) => p - q);
    const row = Math.floor(line / SUBLINES) * size;
    for (let k = 0; k + 1 < crossings.length; k += 2) {
      const from = Math.max(0, crossings[k]!);
      const to = Math.min(size, crossings[k + 1]!);
      for (let i = Math.floor(from); i < to; i++)
        this.#mask[row + i]! += (Math.min(to, i + 1) - Math.max(from, i)) / SUBLINES;
    }
  }

  #segment(ax: number, ay: number, bx: number, by: number, radius: number): void {
    const { size } = this;
    const reach = radius + 0.5;
    const top = Math.max(0, Math.floor(Math.min(ay, by) - reach));
    const bottom = Math.min(size - 1, Math.floor(Math.max(ay, by) + reach));
    const left = Math.max(0, Math.floor(Math.min(ax, bx) - reach));
    const right = Math.min(size - 1, Math.floor(Math.max(ax, bx) + reach));
    const dx = bx - ax;
    const dy = by - ay;
    const scale = 1 / (dx * dx + dy * dy + 1e-9);
    for (let j = top; j <= bottom; j++) {
      for (let i = left; i <= right; i++) {
        const px = i + 0.5 - ax;
        const py = j + 0.5 - ay;
        const t = Math.min(1, Math.max(0, (px * dx + py * dy) * scale));
        const ex = px - t * dx;
        const ey = py - t * dy;
        const covered = Math.min(1, reach - Math.sqrt(ex * ex + ey * ey));
        const at = j * size + i;
        if (covered > this.#mask[at]!) this.#mask[at] = covered;
      }
    }
  }

  /** Blends the ink through the mask and clears the mask. */
  #composite(ink: Ink): void {
    const { size, rgb } = this;
    const mask = this.#mask;
    for (let at = 0; at < mask.length; at++) {
      if (mask[at] === 0) continue;
      const cover = Math.min(1, mask[at]!) * ink.opacity;
      mask[at] = 0;
      const mix = ink.along((2 * (at % size) + 1) / size - 1, (2 * Math.floor(at / size) + 1) / size - 1);
      for (let c = 0; c < 3; c++) {
        const colour = ink.from[c]! + (ink.to[c]! - ink.from[c]!) * mix;
        rgb[3 * at + c]! += (colour - rgb[3 * at + c]!) * cover;
      }
    }
  }
}

/** Rec. 601 luma of an RGB colour in [0, 1]. */
export function luminance(colour: Colour): number {
  return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2];
}
