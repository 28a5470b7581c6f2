/** Finds images that show the same picture as another one of their class. */
import { alike, coarse, type Fingerprint } from './fingerprint.js';

interface Looks {
  label: string;
  sha1: string;
  /** null: nothing to know it by. */
  print: Fingerprint | null;
}

/**
 * Images are compared when the brightness of their quarters falls into the same cells, or into one beyond a border that
 * is near; levels. The sixteenths of images that are alike differ by less.
 */
const CELL = 8;
const BORDER = 2.5;
const SIXTEENTH = 5;
/** No image is compared with more than so many of a cell, the latest ones. */
const COMPARED = 256;
/** A class must look in so many ways for a split to be able to keep them apart. */
const FEWEST_LOOKS = 3;

/**
 * For each image the position of the one that it repeats, else null; byte-identical ones do not count. All repeat the
 * first of their kind, so that no chain leads from one picture to another. Images of a class that hardly varies repeat
 * nothing: `uniform` names such classes. Time grows with the number of images, not with its square.
 */
export function findNearDuplicates(images: readonly Looks[]): {
  repeats: (number | null)[];
  uniform: string[];
} {
  const repeats = images.map((): number | null => null);
  const cells = new Map<string, First[]>();
  const bytes = new Set<string>();
  const looks = new Map<string, number>();
  for (const [i, { label, sha1, print }] of images.entries()) {
    if (bytes.has(`${label} ${sha1}`)) continue;
    bytes.add(`${label} ${sha1}`);
    const found = print && lookUp(cells, label, { position: i, print, coarse: coarse(print) });
    if (found === null) looks.set(label, (looks.get(label) ?? 0) + 1);
    else repeats[i] = found;
  }
  const uniform = new Set<string>();
  for (const [i, { label }] of images.entries())
    if (repeats[i] !== null && looks.get(label)! < FEWEST_LOOKS) {
      repeats[i] = null;
      uniform.add(label);
    }
  return { repeats, uniform: [...uniform] };
}

/** An image that repeats none before it. */
interface First {
  position: number;
  print: Fingerprint;
  coarse: Float32Array;
}

/** The position of the image that this one repeats; null, and it is entered, when there is none. */
function lookUp(cells: Map<string, First[]>, label: string, image: First): number | null {
  const [own, ...others] = cellsOf(label, image.coarse);
  for (const cell of [own!, ...others])
    for (const first of cells.get(cell)?.slice(-COMPARED) ?? [])
      if (near(first.coarse, image.coarse) && alike(first.print, image.print)) return first.position;
  const there = cells.get(own!);
  if (there) there.push(image);
  else cells.set(own!, [image]);
  return null;
}

function near(a: Float32Array, b: Float32Array): boolean {
  for (let i = 0; i < a.length; i++) if (Math.abs(a[i]! - b[i]!) > SIXTEENTH) return false;
  return true;
}

/** The cell that an image belongs to first, then those that an image like it may be in. */
function cellsOf(label: string, sixteenths: Float32Array): string[] {
  let found: number[][] = [[]];
  for (const corner of [0, 2, 8, 10]) {
    const value = [0, 1, 4, 5].reduce((sum, part) => sum + sixteenths[corner + part]!, 0) / 4;
    const own = Math.floor(value / CELL);
    const inside = value - own * CELL;
    const beyond = inside < BORDER ? [own - 1] : inside > CELL - BORDER ? [own + 1] : [];
    found = [own, ...beyond].flatMap((cell) => found.map((before) => [...before, cell]));
  }
  return found.map((cell) => `${cell.join()} ${label}`);
}
