import { Type, type Static } from 'typebox';
import { Id, Timestamp } from './ids.js';
import { ColumnCounts } from './task.js';

export const DATASET_FORMATS = ['image-folder', 'csv', 'market1501', 'utkface', 'idx'] as const;
export const DatasetFormat = Type.Enum([...DATASET_FORMATS]);
export type DatasetFormat = Static<typeof DatasetFormat>;

export const SPLITS = ['train', 'validation', 'test'] as const;
export const Split = Type.Enum([...SPLITS]);
export type Split = Static<typeof Split>;

export const DATASET_STATUSES = ['validating', 'ready', 'invalid'] as const;
export const DatasetStatus = Type.Enum([...DATASET_STATUSES]);
export type DatasetStatus = Static<typeof DatasetStatus>;

export const DatasetCounts = Type.Object({
  images: Type.Integer(),
  skipped: Type.Integer(),
  bytes: Type.Integer({ description: 'Bytes of all accepted image files' }),
  pixels: Type.Optional(Type.Integer({ description: 'Width x height of all of them' })),
  aspect: Type.Optional(Type.Number({ description: 'Median height : width of the images' })),
  classes: Type.Integer(),
  /** What the images are annotated with, which decides what tasks they can serve; datasets of old have none. */
  columns: Type.Optional(ColumnCounts),
  /** Images per split as given by the archive; null where the archive names no splits (a seeded split is made per job). */
  splits: Type.Union([
    Type.Object({ train: Type.Integer(), validation: Type.Integer(), test: Type.Integer() }),
    Type.Null(),
  ]),
});
export type DatasetCounts = Static<typeof DatasetCounts>;

export const DatasetLabel = Type.Object({ name: Type.String(), count: Type.Integer() });

export const ReportItem = Type.Object({
  path: Type.String(),
  code: Type.String({ description: 'Why, in one machine-readable word, e.g. image-truncated' }),
  detail: Type.String(),
});
export type ReportItem = Static<typeof ReportItem>;

/** What was found in the archive: everything skipped and every warning, at once. */
export const DatasetReport = Type.Object({
  /** Set when the dataset was refused whole. */
  error: Type.Union([
    Type.Object({
      code: Type.String(),
      detail: Type.String(),
      where: Type.Union([Type.String(), Type.Null()]),
    }),
    Type.Null(),
  ]),
  skipped: Type.Array(ReportItem),
  warnings: Type.Array(ReportItem, {
    description:
      'Among them `duplicate-image` (the same bytes) and `near-duplicates` (the same picture of the same class, ' +
      're-encoded or resized; not looked for in idx arrays, images under 16 px, or images of nearly one colour). ' +
      'Both are kept in one split',
  }),
  /** Smallest, median and largest image side, px. */
  sizes: Type.Union([
    Type.Object({ min: Type.Integer(), median: Type.Integer(), max: Type.Integer() }),
    Type.Null(),
  ]),
});
export type DatasetReport = Static<typeof DatasetReport>;

export const Dataset = Type.Object(
  {
    id: Id('ds'),
    object: Type.Literal('dataset'),
    name: Type.String(),
    status: DatasetStatus,
    format: Type.Union([DatasetFormat, Type.Null()]),
    counts: Type.Union([DatasetCounts, Type.Null()]),
    labels: Type.Union([Type.Array(DatasetLabel), Type.Null()]),
    report: Type.Union([DatasetReport, Type.Null()]),
    sha256: Type.Union([Type.String(), Type.Null()]),
    created_at: Timestamp,
    ready_at: Type.Union([Timestamp, Type.Null()]),
  },
  { $id: 'Dataset' },
);
export type Dataset = Static<typeof Dataset>;
