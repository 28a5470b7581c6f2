import type { ReportItem, Split } from '@ntaa/contracts';
import type { Sample } from '../types.js';

/** A regular file of the archive. */
export interface ListedFile {
  path: string;
  size: number;
}

/** What the archive's layout says about one image. `label` null: nothing to tell it from others by. */
export type Annotation = { path: string; label: string | null; split: Split | null } & Pick<
  Sample,
  'identity' | 'camera' | 'age' | 'gender' | 'domain' | 'attributes' | 'role'
>;

/** One pair of idx files: the images' member, and their labels. */
export interface IdxSet {
  path: string;
  gzipped: boolean;
  split: Split;
  labels: Uint8Array;
}

/** How the files of an archive are to be read. */
export interface Layout {
  /** By the file's path in the archive. */
  images: Map<string, Annotation>;
  skipped: ReportItem[];
  warnings: ReportItem[];
  /** Where labels come from: one value only means too few classes, or a target that does not vary. null: nowhere. */
  target: 'label' | 'identity' | 'age' | 'gender' | null;
  /** Instead of image files: arrays of raw pixels. */
  idx?: IdxSet[];
}

export interface Format {
  detect(files: readonly ListedFile[]): boolean;
  /** @throws {DatasetError} when the files do not have this layout. */
  read(files: readonly ListedFile[], annotations: ReadonlyMap<string, Buffer>): Layout;
}

/** Small files that say something about the others, needed before the images are read. */
export const isAnnotation = (path: string): boolean =>
  /(^|\/)labels\.csv$/i.test(path) || /labels[-.]idx1-ubyte(\.gz)?$/i.test(path);

const looksLikeImage = (path: string) => /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic)$/i.test(path);
export const imageNamed = (files: readonly ListedFile[]) => files.filter(({ path }) => looksLikeImage(path));
const isArchiveName = (path: string) => /\.(zip|tar|tgz|gz|bz2|xz|7z|rar)$/i.test(path);

export const skip = (path: string, code: string, detail: string): ReportItem => ({ path, code, detail });
/** A file that the layout gives no label. */
export const unlabelled = (path: string, detail: string): ReportItem =>
  isArchiveName(path)
    ? skip(path, 'nested-archive', 'archives inside the archive are not opened')
    : skip(path, 'unlabelled', detail);

export function splitNamed(name: string): Split | null {
  const known: Record<string, Split> = {
    train: 'train',
    training: 'train',
    val: 'validation',
    valid: 'validation',
    validation: 'validation',
    test: 'test',
    testing: 'test',
  };
  return known[name.trim().toLowerCase()] ?? null;
}
