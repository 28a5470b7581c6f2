import type { PackOptions, Progress, Sample } from './types.js';

export interface PackJob {
  /** Path of images.bin. */
  images: string;
  samples: readonly Pick<Sample, 'path' | 'offset' | 'length'>[];
  options: PackOptions;
  /** File to write: raw uint8 RGB [n, height, width, 3], in the order of `samples`. */
  out: string;
  onProgress?: Progress;
  signal?: AbortSignal;
}
export function packImages(_job: PackJob): Promise<void> {
  throw new Error('being written');
}

/** The packed file, read by position. */
export class PackedImages {
  readonly count: number;
  readonly width: number;
  readonly height: number;
  constructor(_file: string, count: number, width: number, height: number) {
    this.count = count;
    this.width = width;
    this.height = height;
  }
  /** Copies image `index`, uint8 [height, width, 3], into `out` at `offset`. */
  read(_index: number, _out: Uint8Array, _offset: number): void {
    throw new Error('being written');
  }
  close(): void {}
}

/** Mean and standard deviation of x / 255 per channel over the images at `indices`; std is at least 1e-3. */
export function channelStatistics(
  _packed: PackedImages,
  _indices: ArrayLike<number>,
): { mean: [number, number, number]; std: [number, number, number] } {
  throw new Error('being written');
}
