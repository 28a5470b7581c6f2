import { DatasetError, type DatasetFormat } from '@ntaa/contracts';
import { csv } from './csv.js';
import { idx } from './idx.js';
import { imageFolder } from './image-folder.js';
import type { Format, Layout, ListedFile } from './layout.js';
import { market1501 } from './market1501.js';
import { utkface } from './utkface.js';

/** In the order of detection: the most distinctive first. */
const FORMATS: Record<DatasetFormat, Format> = { market1501, csv, idx, utkface, 'image-folder': imageFolder };

/** @throws {DatasetError} `no-images`, `format-unknown`, or `format-invalid` when it is not what it is named. */
export function findLayout(
  files: readonly ListedFile[],
  annotations: ReadonlyMap<string, Buffer>,
  named?: DatasetFormat,
): { format: DatasetFormat; layout: Layout } {
  if (files.length === 0) throw new DatasetError('no-images', 'the archive holds no files');
  const format =
    named ?? (Object.keys(FORMATS) as DatasetFormat[]).find((name) => FORMATS[name].detect(files));
  if (format === undefined) {
    const seen = files.slice(0, 5).map(({ path }) => path);
    throw new DatasetError(
      'format-unknown',
      `the archive holds ${files.length} files such as ${seen.join(', ')}; expected CLASS/IMAGE folders (with ` +
        'train/, val/, test/ above them or not), a labels.csv with a path column, MNIST-style idx files, ' +
        'Market-1501 folders, or UTKFace names',
    );
  }
  return { format, layout: FORMATS[format].read(files, annotations) };
}
