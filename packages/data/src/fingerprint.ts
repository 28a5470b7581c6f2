/**
 * What an image looks like, small enough to be kept of every image: equal within a tolerance for the same picture
 * re-encoded, resized or slightly recompressed. With these thresholds, of 3,786 emoji (64 px, skin tones included) two
 * are taken for another one (a flag that is there twice, and a bowing man), of 60,000 MNIST digits four. Of copies of
 * emoji are found: 98 % resized to 0.5 or 0.7, 88 % as JPEG 90, 80 % as WebP 75, 45 % as JPEG 75; of copies of parts of
 * photographs (96 px) all of these, and most that were resized and compressed.
 */

/** Cells a side; each holds the mean colour of its part of the image. */
const CELLS = 16;
const PRINT_BYTES = CELLS * CELLS * 3;
/** Images with a shorter side have less than a pixel for each cell. */
const LEAST_SIDE = 16;
/** Images are shrunk to this before: what is left to the cells' own averaging, so that their means are exact. */
const SHRUNK = 64;

/** Mean colours, uint8 RGB [16, 16, 3]. */
export type Fingerprint = Uint8Array;

/** Pixels to decode an image of this size to, for `fingerprint`. */
export const sizeForPrint = (width: number, height: number): { width: number; height: number } => ({
  width: Math.min(width, SHRUNK),
  height: Math.min(height, SHRUNK),
});

/**
 * @param pixels uint8 RGB [height, width, 3] as stored, before EXIF orientation. @param orientation EXIF, 1 to 8.
 * @returns null for images without detail to know them by: very small ones, and those of one colour.
 */
export function fingerprint(
  pixels: Uint8Array,
  width: number,
  height: number,
  orientation = 1,
): Fingerprint | null {
  if (Math.min(width, height) < LEAST_SIDE || pixels.length !== 3 * width * height) return null;
  const print = upright(averaged(pixels, width, height), orientation);
  return detail(print) < LEAST_DETAIL ? null : print;
}

/** Means over cells of equal area; a pixel on a border counts for both, by its share. */
function averaged(pixels: Uint8Array, width: number, height: number): Fingerprint {
  const sums = new Float64Array(PRINT_BYTES);
  const [columns, rows] = [shares(width), shares(height)];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const from = 3 * (y * width + x);
      for (let r = 2 * y; r < 2 * y + 2; r++)
        for (let c = 2 * x; c < 2 * x + 2; c++) {
          const weight = rows.share[r]! * columns.share[c]!;
          if (weight === 0) continue;
          const to = 3 * (rows.cell[r]! * CELLS + columns.cell[c]!);
          sums[to]! += weight * pixels[from]!;
          sums[to + 1]! += weight * pixels[from + 1]!;
          sums[to + 2]! += weight * pixels[from + 2]!;
        }
    }
  return Uint8Array.from(sums, (sum) => Math.round(sum));
}

/** Of each of `length` >= CELLS pixels the one or two cells that it lies in, and which share of the cell it is. */
function shares(length: number): { cell: Int32Array; share: Float64Array } {
  const cell = new Int32Array(2 * length);
  const share = new Float64Array(2 * length);
  const size = CELLS / length;
  for (let i = 0; i < length; i++) {
    const first = Math.floor((i * CELLS) / length);
    const inFirst = Math.min(size, first + 1 - i * size);
    cell[2 * i] = first;
    cell[2 * i + 1] = Math.min(CELLS - 1, first + 1);
    share[2 * i] = inFirst;
    share[2 * i + 1] = size - inFirst;
  }
  return { cell, share };
}

/** As seen: what is where in the stored picture, by EXIF orientation. */
function upright(print: Fingerprint, orientation: number): Fingerprint {
  if (orientation === 1) return print;
  const out = new Uint8Array(PRINT_BYTES);
  const last = CELLS - 1;
  for (let y = 0; y < CELLS; y++)
    for (let x = 0; x < CELLS; x++) {
      const [row, column] = [
        [y, x],
        [y, last - x],
        [last - y, last - x],
        [last - y, x],
        [x, y],
        [last - x, y],
        [last - x, last - y],
        [x, last - y],
      ][orientation - 1] ?? [y, x];
      const from = 3 * (row! * CELLS + column!);
      out.set(print.subarray(from, from + 3), 3 * (y * CELLS + x));
    }
  return out;
}

/** Standard deviation over the cells, all channels together, levels. */
function detail(print: Fingerprint): number {
  let variance = 0;
  for (let c = 0; c < 3; c++) {
    let [sum, squares] = [0, 0];
    for (let i = c; i < PRINT_BYTES; i += 3) {
      sum += print[i]!;
      squares += print[i]! ** 2;
    }
    const cells = CELLS * CELLS;
    variance += squares / cells - (sum / cells) ** 2;
  }
  return Math.sqrt(variance / 3);
}

/** Levels, 0 to 255. */
const LEAST_DETAIL = 12;
/** Root mean square difference: at most so much, and such a share of the detail. */
const FAR = 5;
const FAR_SHARE = 0.12;
/** A cell may differ by this, and by a share of how steep the picture is there: resampling moves edges a little. */
const CELL = 12;
const CELL_SHARE = 0.15;

/** Do these show the same picture? */
export function alike(a: Fingerprint, b: Fingerprint): boolean {
  let sum = 0;
  for (let i = 0; i < PRINT_BYTES; i++) {
    sum += (a[i]! - b[i]!) ** 2;
    if (sum > PRINT_BYTES * FAR ** 2) return false;
  }
  if (sum > PRINT_BYTES * (FAR_SHARE * detail(a)) ** 2) return false;
  for (let i = 0; i < PRINT_BYTES; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (difference <= CELL) continue;
    if (difference > CELL + CELL_SHARE * Math.min(steepness(a, i), steepness(b, i))) return false;
  }
  return true;
}

/** Largest difference to a neighbouring cell. */
function steepness(print: Fingerprint, i: number): number {
  const row = 3 * CELLS;
  const column = i % row;
  const neighbours = [
    ...(column >= 3 ? [i - 3] : []),
    ...(column < row - 3 ? [i + 3] : []),
    ...(i >= row ? [i - row] : []),
    ...(i < PRINT_BYTES - row ? [i + row] : []),
  ];
  return Math.max(...neighbours.map((n) => Math.abs(print[n]! - print[i]!)));
}

/** Mean brightness of the 16 parts of 4 x 4 cells, levels, row by row. */
export function coarse(print: Fingerprint): Float32Array {
  const means = new Float32Array(16);
  for (let i = 0; i < PRINT_BYTES; i += 3) {
    const cell = i / 3;
    const part = 4 * Math.floor(cell / (4 * CELLS)) + Math.floor((cell % CELLS) / 4);
    means[part]! += (print[i]! + 2 * print[i + 1]! + print[i + 2]!) / (4 * 16);
  }
  return means;
}
