import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { ProblemError } from '@ntaa/contracts';
import { decodeImage } from './image.js';
import { ordered } from './ordered.js';
import type { PackOptions, Progress, Sample } from './types.js';

export interface PackJob {
  /** Path of images.bin. */
  images: string;
  samples: readonly Pick<Sample, 'path' | 'offset' | 'length'>[];
  options: PackOptions;
  /** File to write: raw uint8 RGB [n, height, width, 3], in the order of `samples`. Removed again on failure. */
  out: string;
  onProgress?: Progress;
  signal?: AbortSignal;
}

/** Images decoded at a time: libuv's pool has four threads. */
const PARALLEL = 4;

/**
 * Decodes every image once, exactly as decodeImage does.
 * @throws {ProblemError} `image-unreadable`, naming the sample.
 */
export async function packImages(job: PackJob): Promise<void> {
  const { samples, options, onProgress, signal } = job;
  const source = await open(job.images);
  let packed: FileHandle | undefined;
  try {
    packed = await open(job.out, 'w');
    let done = 0;
    for await (const pixels of ordered(samples, PARALLEL, (sample) => decode(source, sample, options))) {
      signal?.throwIfAborted();
      await packed.writeFile(pixels); // at the current position
      done++;
      if (done % 64 === 0 || done === samples.length)
        onProgress?.(done / samples.length, `${done} of ${samples.length} images decoded`);
    }
  } catch (error) {
    await rm(job.out, { force: true });
    throw error;
  } finally {
    await packed?.close();
    await source.close();
  }
}

async function decode(
  source: FileHandle,
  sample: PackJob['samples'][number],
  options: PackOptions,
): Promise<Uint8Array> {
  const bytes = Buffer.alloc(sample.length);
  await source.read(bytes, 0, sample.length, sample.offset);
  try {
    return await decodeImage(bytes, options);
  } catch (error) {
    if (error instanceof ProblemError) throw new ProblemError(error.code, `${sample.path}: ${error.message}`);
    throw error;
  }
}

/** Sets up to this many bytes are held in memory; larger ones are read from the file as needed. */
const HELD_BYTES = 64e6;

/** What another thread needs to read the same images: structured-clonable. */
export interface PackedHandle {
  file: string;
  count: number;
  width: number;
  height: number;
  held: SharedArrayBuffer | null;
}

/** The packed file, read by position. */
export class PackedImages {
  readonly count: number;
  readonly width: number;
  readonly height: number;
  /** Bytes of one image. */
  readonly stride: number;
  readonly #path: string;
  readonly #file: number;
  readonly #held: Uint8Array<SharedArrayBuffer> | null = null;
  #open = true;

  constructor(
    file: string,
    count: number,
    width: number,
    height: number,
    held: SharedArrayBuffer | null = null,
  ) {
    this.#path = file;
    this.count = count;
    this.width = width;
    this.height = height;
    this.stride = width * height * 3;
    this.#file = openSync(file, 'r');
    const [expected, actual] = [count * this.stride, fstatSync(this.#file).size];
    if (actual !== expected) {
      this.close();
      throw new Error(
        `${file} has ${actual} bytes, not the ${expected} of ${count} ${width}x${height} images`,
      );
    }
    if (held) this.#held = new Uint8Array(held);
    else if (expected <= HELD_BYTES) {
      this.#held = new Uint8Array(new SharedArrayBuffer(expected));
      this.#fill(this.#held, 0, expected, 0);
    }
  }

  /** The same images in another thread, which shares the memory and closes its own. */
  static attach({ file, count, width, height, held }: PackedHandle): PackedImages {
    return new PackedImages(file, count, width, height, held);
  }

  get handle(): PackedHandle {
    const { count, width, height } = this;
    return { file: this.#path, count, width, height, held: this.#held?.buffer ?? null };
  }

  /** Copies image `index`, uint8 [height, width, 3], into `out` at `offset`. */
  read(index: number, out: Uint8Array, offset = 0): void {
    if (!(index >= 0 && index < this.count)) throw new RangeError(`no image ${index} of ${this.count}`);
    const from = index * this.stride;
    if (this.#held) out.set(this.#held.subarray(from, from + this.stride), offset);
    else this.#fill(out, offset, this.stride, from);
  }

  close(): void {
    if (this.#open) closeSync(this.#file);
    this.#open = false;
  }

  #fill(out: Uint8Array, offset: number, length: number, position: number): void {
    for (let done = 0; done < length;) {
      const got = readSync(this.#file, out, offset + done, length - done, position + done);
      if (got === 0) throw new Error('the packed images end early');
      done += got;
    }
  }
}

/** Mean and standard deviation of x / 255 per channel over the images at `indices`; std is at least 1e-3. */
export function channelStatistics(
  packed: PackedImages,
  indices: ArrayLike<number>,
): { mean: [number, number, number]; std: [number, number, number] } {
  if (indices.length === 0) throw new RangeError('no images to take statistics of');
  const pixels = new Uint8Array(packed.stride);
  // Integers below 2^53 add up without rounding, so the order does not matter.
  const sum = [0, 0, 0];
  const squares = [0, 0, 0];
  for (let n = 0; n < indices.length; n++) {
    packed.read(indices[n]!, pixels);
    for (let c = 0; c < 3; c++) {
      let [s, q] = [0, 0];
      for (let i = c; i < pixels.length; i += 3) {
        const x = pixels[i]!;
        s += x;
        q += x * x;
      }
      sum[c]! += s;
      squares[c]! += q;
    }
  }
  const count = indices.length * packed.width * packed.height;
  const mean = sum.map((s) => s / count / 255) as [number, number, number];
  const std = squares.map((q, c) =>
    Math.max(1e-3, Math.sqrt(Math.max(0, q / count / 65025 - mean[c]! ** 2))),
  ) as [number, number, number];
  return { mean, std };
}
