/**
 * Generated people, for the protocols of tasks that no real set serves here: faces with age and gender, pedestrians
 * before several cameras. Parametric drawings, not photographs: numbers measured on them say that a task works, not how
 * well it does on people.
 */
import { Rng } from '@ntaa/random';
import sharp from 'sharp';

type Colour = readonly [number, number, number];
const SIDE = 32;

class Canvas {
  readonly pixels: Buffer;
  readonly width: number;
  readonly height: number;
  readonly #scale: number;

  /** @param scale pixels for each unit of the drawing. */
  constructor(width: number, height: number, background: Colour, scale = 1) {
    this.width = width * scale;
    this.height = height * scale;
    this.#scale = scale;
    this.pixels = Buffer.alloc(3 * this.width * this.height);
    this.fill(() => true, background);
  }

  /** Paints the pixels whose centre is inside. */
  fill(inside: (x: number, y: number) => boolean, colour: Colour): void {
    for (let y = 0; y < this.height; y++)
      for (let x = 0; x < this.width; x++)
        if (inside((x + 0.5) / this.#scale, (y + 0.5) / this.#scale))
          for (let c = 0; c < 3; c++) this.pixels[3 * (y * this.width + x) + c] = clamp(colour[c]!);
  }

  ellipse(cx: number, cy: number, rx: number, ry: number, colour: Colour): void {
    this.fill((x, y) => ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1, colour);
  }

  box(left: number, top: number, width: number, height: number, colour: Colour): void {
    this.fill((x, y) => x >= left && x < left + width && y >= top && y < top + height, colour);
  }

  /** Gain and noise of a sensor, then PNG. */
  png(rng: Rng, gain: Colour, noise: number): Promise<Buffer> {
    for (let i = 0; i < this.pixels.length; i++)
      this.pixels[i] = clamp(this.pixels[i]! * gain[i % 3]! + noise * rng.normal());
    return sharp(this.pixels, { raw: { width: this.width, height: this.height, channels: 3 } })
      .png()
      .toBuffer();
  }
}

const clamp = (value: number) => Math.max(0, Math.min(255, Math.round(value)));
const between = (rng: Rng, low: number, high: number) => low + (high - low) * rng.uniform();
const mixed = (a: Colour, b: Colour, share: number): Colour =>
  [0, 1, 2].map((c) => a[c]! + share * (b[c]! - a[c]!)) as unknown as Colour;

export interface Face {
  age: number;
  gender: 'female' | 'male';
  skin: 'dark' | 'light';
}

/** Hair greys and thins, faces grow longer, wrinkles come with age; hair is longer or shorter by gender, mostly. */
export function face(serial: number): Face {
  const rng = new Rng('face', serial);
  return {
    age: Math.round(between(rng, 1, 90)),
    gender: rng.uniform() < 0.7 ? 'female' : 'male',
    skin: rng.uniform() < 0.5 ? 'dark' : 'light',
  };
}

export function drawFace({ age, gender, skin }: Face, serial: number): Promise<Buffer> {
  const rng = new Rng('drawing', serial);
  const old = age / 90;
  const tone: Colour = skin === 'dark' ? [120, 80, 60] : [225, 180, 150];
  const hair = mixed([60, 40, 30], [235, 235, 235], old);
  const canvas = new Canvas(SIDE, SIDE, [90, 110, 150]);
  const [cx, cy] = [16 + between(rng, -1.5, 1.5), 17 + between(rng, -1.5, 1.5)];
  const length = 8 + 4 * old;
  if (gender === 'female') canvas.ellipse(cx, cy + 1, 11, 12, hair);
  canvas.ellipse(cx, cy - 3, 9, 9 - 3 * old, hair);
  canvas.ellipse(cx, cy, 7, length, tone);
  for (const side of [-1, 1]) canvas.ellipse(cx + 3 * side, cy - 1, 1.2, 1.2, [20, 20, 20]);
  const wrinkle = mixed(tone, [0, 0, 0], 0.5 * old);
  for (let line = 0; line < 3; line++) canvas.box(cx - 4, cy - 6 + 1.5 * line, 8, 0.8, wrinkle);
  canvas.box(cx - 2, cy + 4, 4, 1, [170, 60, 60]);
  return canvas.png(rng, [1, 1, 1], 8);
}

/** A person, 16 x 32 px or more, alike in all pictures but for pose; three cameras that differ in colour, height and background. */
export function drawPedestrian(identity: number, camera: number, shot: number, scale = 1): Promise<Buffer> {
  const own = new Rng('person', identity);
  const colour = (): Colour => [own.int(256), own.int(256), own.int(256)];
  const [coat, legs, hair, bag] = [colour(), colour(), colour(), colour()];
  const carries = own.uniform() < 0.5;
  const striped = own.uniform() < 0.5;
  const rng = new Rng('shot', identity, camera, shot);
  const grounds: Colour[] = [[90, 100, 90], [150, 150, 160], [110, 90, 80]]; // prettier-ignore
  const canvas = new Canvas(SIDE / 2, SIDE, grounds[camera % 3]!, scale);
  const left = 4 + between(rng, -1.5, 1.5) + (camera === 1 ? 1 : 0);
  const top = 3 + between(rng, -1, 1);
  canvas.ellipse(left + 4, top + 2, 2.4, 2.8, mixed([220, 180, 150], hair, 0.4));
  canvas.box(left, top + 5, 8, 11, coat);
  if (striped) for (let row = 0; row < 5; row += 2) canvas.box(left, top + 6 + 2 * row, 8, 1, bag);
  if (carries) canvas.box(left + 6, top + 9, 4, 5, bag);
  const step = between(rng, 0, 2);
  for (const side of [0, 1]) canvas.box(left + 1 + side * (3 + step), top + 16, 3, 11, legs);
  const gains: Colour[] = [[1, 1, 1], [0.85, 0.95, 1.1], [1.1, 1, 0.8]]; // prettier-ignore
  return canvas.png(rng, gains[camera % 3]!, 6);
}

/** A shape (0 disc, 1 square, 2 cross, 3 ring) in one of two styles of drawing: bright on dark, or coloured on paper. */
export function drawShape(kind: number, style: 'screen' | 'paper', serial: number): Promise<Buffer> {
  const rng = new Rng('shape', style, kind, serial);
  const canvas = new Canvas(SIDE, SIDE, style === 'screen' ? [40, 40, 40] : [205, 195, 170]);
  const ink: Colour =
    style === 'screen'
      ? [220, 220, 220]
      : [between(rng, 60, 130), between(rng, 20, 80), between(rng, 20, 60)];
  const [cx, cy, r] = [between(rng, 12, 20), between(rng, 12, 20), between(rng, 6, 9)];
  canvas.fill((x, y) => {
    const [dx, dy] = [Math.abs(x - cx), Math.abs(y - cy)];
    const d = Math.hypot(dx, dy);
    return [
      d < r,
      Math.max(dx, dy) < 0.85 * r,
      Math.min(dx, dy) < 0.3 * r && Math.max(dx, dy) < r,
      d < r && d > 0.6 * r,
    ][kind]!;
  }, ink);
  return canvas.png(rng, [1, 1, 1], style === 'screen' ? 12 : 22);
}
