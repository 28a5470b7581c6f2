import { join } from 'node:path';
import { JobError, type SearchSpace } from '@ntaa/contracts';
import {
  channelStatistics,
  medianAspect,
  packImages,
  PackedImages,
  splitDataset,
  type AugmentPolicy,
  type DatasetIndex,
  type Splits,
} from '@ntaa/data';
import { inputAspect, inputSize } from '@ntaa/nas';
import { sliceColumns, taskFor, type Task } from '@ntaa/tasks';
import type { TargetData } from './target-data.js';

/**
 * Views under which an image keeps its label whatever it shows. No mirror: letters, digits and arrows change meaning.
 */
const AUGMENTATION: AugmentPolicy = {
  flip: false,
  rotate: 10,
  scale: 0.15,
  translate: 0.08,
  color: 0.2,
  erase: 0.1,
  fill: 'edge',
};

/** White under transparent pixels, as drawings are usually seen; letterboxed, so that shapes keep their proportions. */
export const GEOMETRY = {
  fit: 'contain',
  kernel: 'lanczos3',
  background: { r: 255, g: 255, b: 255 },
} as const;

/** Images are never enlarged beyond this for their own sake: every space has some resolution up to it. */
const BASE_RESOLUTION = 32;

/** Larger sets are packed by the job that needs them, at the resolutions it needs. */
const PACKED_AT_ONCE = 20_000;

/** Resolutions a new dataset is packed at, so that jobs need not decode it again. */
export function resolutionsToPack(space: SearchSpace, index: DatasetIndex): number[] {
  return index.samples.length <= PACKED_AT_ONCE ? usefulResolutions(space, index) : [];
}

/** Height : width of the inputs of networks that learn this task from these images. */
export const aspectFor = (task: Task['name'], { samples }: DatasetIndex): number =>
  task === 'self-supervised' ? 1 : inputAspect(task, medianAspect(samples));

/**
 * Decodes all images at one resolution, as networks will see them, into `packed-WIDTHxHEIGHT.bin` in `folder`.
 * @param aspect height : width.
 */
export async function packAt(
  input: { images: string; index: DatasetIndex; onProgress?: PrepareInput['onProgress'] },
  resolution: number,
  folder: string,
  aspect = 1,
): Promise<string> {
  const { width, height } = inputSize({ aspect }, { resolution });
  const out = join(folder, `packed-${width}x${height}.bin`);
  await packImages({
    images: input.images,
    samples: input.index.samples,
    options: { width, height, ...GEOMETRY },
    out,
    ...(input.onProgress && { onProgress: input.onProgress }),
  });
  return out;
}

export interface PrepareInput {
  /** Path of images.bin; fetched only when some resolution is not packed yet. */
  images: () => Promise<string>;
  index: DatasetIndex;
  /** Default: classification. */
  task?: Task['name'];
  seed: number;
  space: SearchSpace;
  /** Packs that exist already, of the aspect that the task wants (see aspectFor): paths by resolution. */
  packed: ReadonlyMap<number, string>;
  /** Folder for the packs that do not, whose owner removes it. */
  scratch: string;
  onProgress?: (fraction: number, message: string) => void;
}

export type Prepared = TargetData & { close(): void };

/**
 * Splits a dataset as its task asks for and opens it at every resolution the search may use, decoding what is not
 * decoded yet. Close it when done. @throws JobError when the task cannot be learnt from it.
 */
export async function prepareTarget(input: PrepareInput): Promise<Prepared> {
  const { index } = input;
  const task = taskFor(input.task ?? 'classification');
  const splits = splitFor(task, index, input.seed);
  const targets = task.targets(index.samples, index.labels, splits);
  const aspect = aspectFor(task.name, index);
  const packs = await openPacks(input, usefulResolutions(input.space, index, aspect), aspect);
  const { mean, std } = channelStatistics([...packs.values()].at(-1)!, splits.train);
  return {
    ...targets,
    splits,
    packs,
    ...(aspect !== 1 && { aspect }),
    preprocessing: { channels: 'RGB', ...GEOMETRY, scale: 1 / 255, mean, std },
    policy: policyOf(task),
    sliceColumns: sliceColumns(index.samples, task.name === 'gender-recognition' ? 'gender' : undefined),
    close: () => packs.forEach((packed) => packed.close()),
  };
}

export const policyOf = (task: Task): AugmentPolicy => ({ ...AUGMENTATION, ...task.augmentation });

const SHARES = { validation: 0.2, test: 0.2 };

/** Splits of the images that have what the task needs, stratified as it asks for. @throws JobError when one is empty. */
export function splitFor(
  task: Task,
  { samples }: DatasetIndex,
  seed: number,
  shares: { validation: number; test: number } = SHARES,
): Splits {
  const usable = samples.flatMap((sample, i) => {
    const stratum = task.stratum(sample);
    return stratum === null ? [] : [{ i, sample: { ...sample, label: stratum } }];
  });
  const found = splitDataset(
    usable.map(({ sample }) => sample),
    seed,
    shares,
  );
  const of = (positions: readonly number[]): number[] => positions.map((at) => usable[at]!.i);
  const splits = { train: of(found.train), validation: of(found.validation), test: of(found.test) };
  for (const name of ['train', 'validation', 'test'] as const)
    if (splits[name].length === 0 && (name !== 'test' || shares.test > 0))
      throw new JobError(
        'too-few-images',
        `no image that ${task.name} can use is left for the ${name} split`,
      );
  return splits;
}

/** The packs of these resolutions, from the coarsest to the finest. */
export async function openPacks(
  input: Pick<PrepareInput, 'images' | 'index' | 'packed' | 'scratch' | 'onProgress'>,
  wanted: readonly number[],
  aspect = 1,
): Promise<Map<number, PackedImages>> {
  const { index } = input;
  const packs = new Map<number, PackedImages>();
  for (const [done, resolution] of wanted.entries()) {
    const onProgress = (fraction: number, message: string): void =>
      input.onProgress?.((done + fraction) / wanted.length, message);
    const file =
      input.packed.get(resolution) ??
      (await packAt({ images: await input.images(), index, onProgress }, resolution, input.scratch, aspect));
    const { width, height } = inputSize({ aspect }, { resolution });
    packs.set(resolution, new PackedImages(file, index.samples.length, width, height));
  }
  return packs;
}

/** The space's resolutions up to what the median image has pixels for (its longer side), and at least the base. */
export function usefulResolutions(space: SearchSpace, index: DatasetIndex, aspect = 1): number[] {
  const sides = index.samples.map((s) => Math.max(s.width, s.height)).sort((a, b) => a - b);
  const median = sides[sides.length >> 1] ?? BASE_RESOLUTION;
  const useful = space.resolutions.filter((resolution) => {
    const { width, height } = inputSize({ aspect }, { resolution });
    return Math.max(width, height) <= Math.max(BASE_RESOLUTION, median);
  });
  return useful.length > 0 ? useful : space.resolutions.slice(0, 1);
}
