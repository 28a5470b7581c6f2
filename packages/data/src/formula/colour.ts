/** Inks, palettes and backgrounds. */
import type { Rng } from '@ntaa/random';
import { bell, between, chance, cosTurn, sinTurn, valueNoise } from './arithmetic.js';
import { luminance, type Canvas } from './canvas.js';

/** RGB in [0, 1]. */
export type Colour = readonly [number, number, number];

/** Hue in turns, saturation and value in [0, 1]. */
export interface Hsv {
  hue: number;
  saturation: number;
  value: number;
}

/** A flat colour, or a linear gradient between two. */
export interface Ink {
  from: Colour;
  to: Colour;
  opacity: number;
  /** Position along the gradient, 0..1, of a point in unit coordinates. */
  along(x: number, y: number): number;
}

/** Number of inks of a palette; families use as many as they need. */
export const INKS = 4;

export function randomHsv(rng: Rng): Hsv {
  const grey = chance(rng, 0.2);
  return { hue: rng.uniform(), saturation: grey ? 0 : between(rng, 0.3, 1), value: between(rng, 0.1, 1) };
}

function jitterHsv(rng: Rng, { hue, saturation, value }: Hsv, amount: number): Hsv {
  return {
    hue: hue + 0.15 * amount * bell(rng),
    saturation: Math.min(1, Math.max(0, saturation + amount * bell(rng))),
    value: Math.min(1, Math.max(0, value + amount * bell(rng))),
  };
}

function toRgb({ hue, saturation, value }: Hsv): Colour {
  const channel = (offset: number): number => {
    const k = (offset + 6 * (hue - Math.floor(hue))) % 6;
    return value - value * saturation * Math.max(0, Math.min(k, 4 - k, 1));
  };
  return [channel(5), channel(3), channel(1)];
}

const FLAT = (): number => 0;

function flatInk(colour: Colour, opacity = 1): Ink {
  return { from: colour, to: colour, opacity, along: FLAT };
}

function gradientInk(rng: Rng, from: Colour, to: Colour): Ink {
  const angle = rng.uniform();
  const dx = cosTurn(angle) / 2;
  const dy = sinTurn(angle) / 2;
  return { from, to, opacity: 1, along: (x, y) => Math.min(1, Math.max(0, 0.5 + dx * x + dy * y)) };
}

/** An instance's inks near the class's colours (`base`) or, without them, at random; all visible on `background`. */
export function mixInks(rng: Rng, background: Colour, base?: readonly Hsv[]): Ink[] {
  const inks: Ink[] = [];
  for (let k = 0; k < INKS; k++) {
    const draw = (): Colour => toRgb(base ? jitterHsv(rng, base[k]!, 0.25) : randomHsv(rng));
    let colour = draw();
    // A class colour may come out close to the background: then any other colour is better than an invisible drawing.
    for (let attempt = 0; attempt < 8 && similar(colour, background); attempt++)
      colour = attempt < 3 ? draw() : toRgb(randomHsv(rng));
    inks.push(chance(rng, 0.25) ? gradientInk(rng, colour, draw()) : flatInk(colour));
  }
  return inks;
}

function similar(a: Colour, b: Colour): boolean {
  const contrast = Math.abs(luminance(a) - luminance(b));
  const distance = Math.abs(a[0] - b[0]) + Math.abs(a[1] - b[1]) + Math.abs(a[2] - b[2]);
  return contrast < 0.2 && distance < 0.7;
}

/** Paints a background and returns its mean colour: half of them plain (black and white often), the rest shaded. */
export function paintBackground(rng: Rng, canvas: Canvas): Colour {
  const kind = rng.uniform();
  if (kind < 0.4) {
    const grey = chance(rng, 0.5) ? between(rng, 0, 0.1) : between(rng, 0.9, 1);
    canvas.flood(flatInk([grey, grey, grey]));
    return [grey, grey, grey];
  }
  const from = toRgb(randomHsv(rng));
  if (kind < 0.6) {
    canvas.flood(flatInk(from));
    return from;
  }
  const other = toRgb(randomHsv(rng));
  const near = (c: 0 | 1 | 2): number => from[c] + 0.5 * (other[c] - from[c]);
  const to: Colour = [near(0), near(1), near(2)];
  if (kind < 0.8) canvas.flood(gradientInk(rng, from, to));
  else {
    const seed = rng.uint32();
    const cells = between(rng, 1, 6);
    canvas.flood({ ...flatInk(from), to }, (x, y) => valueNoise(x * cells, y * cells, seed));
  }
  return [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2, (from[2] + to[2]) / 2];
}
