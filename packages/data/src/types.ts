import type {
  DatasetCounts,
  DatasetFormat,
  DatasetLabel,
  DatasetReport,
  Preprocessing,
  Split,
  Static,
} from '@ntaa/contracts';

/** One accepted image: where its encoded bytes lie in images.bin, and what is known about it. */
export interface Sample {
  /** Path inside the archive, without a wrapping folder; unique. For idx members: `MEMBER#000042`. */
  path: string;
  /** Position and length of the encoded image in images.bin, bytes. */
  offset: number;
  length: number;
  /** Size as seen, after EXIF orientation, px. */
  width: number;
  height: number;
  /** Index into the dataset's labels; -1: none. */
  label: number;
  /** As given by the archive; null where it names none. */
  split: Split | null;
  identity?: string;
  camera?: string;
  age?: number;
  gender?: string;
  domain?: string;
  /** Further columns, by which quality is told apart: short values of few kinds, e.g. skin_tone. */
  attributes?: Readonly<Record<string, string>>;
  /** Part in the re-identification protocol (test images of market1501). */
  role?: 'query' | 'gallery';
  /** Of the encoded bytes, hex: equal for byte-identical files. */
  sha1: string;
  /** Path of the image of the same class whose picture this repeats, re-encoded or resized; indexes of old have none. */
  repeats?: string;
}

/** index.json beside images.bin. Samples are sorted by path, so they do not depend on the archive's order. */
export interface DatasetIndex {
  format: DatasetFormat;
  labels: string[];
  samples: Sample[];
}

/** What an archive may cost before it is refused, or an image before it is skipped. */
export interface IngestLimits {
  /** Entries of the archive, and images of an idx file. */
  entries: number;
  /** All entries unpacked, bytes. */
  unpackedBytes: number;
  /** Unpacked over packed size of an entry of more than 1 MB. */
  ratio: number;
  /** One encoded image, bytes. */
  imageBytes: number;
  /** One image, pixels. */
  imagePixels: number;
  /** An annotation file (labels.csv, idx labels), bytes. */
  annotationBytes: number;
  classes: number;
}

export interface IngestResult {
  index: DatasetIndex;
  counts: DatasetCounts;
  labels: Static<typeof DatasetLabel>[];
  report: DatasetReport;
}

/** The geometric part of Preprocessing: what packing and decoding need. */
export type PackOptions = Pick<Preprocessing, 'width' | 'height' | 'fit' | 'kernel' | 'background'>;

/** Positions in the samples array. */
export interface Splits {
  train: number[];
  validation: number[];
  test: number[];
}

export type Progress = (fraction: number, message: string) => void;
