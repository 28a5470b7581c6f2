import { gunzipSync } from 'node:zlib';
import { DatasetError, type Split } from '@ntaa/contracts';
import { unlabelled, type Format, type IdxSet, type Layout } from './layout.js';

/** `train-images-idx3-ubyte[.gz]`, `t10k-labels-idx1-ubyte[.gz]`; EMNIST puts its own name before. */
const NAME = /^(.*?)(train|t10k|test)-(images[-.]idx3|labels[-.]idx1)-ubyte(\.gz)?$/i;
const LARGEST_LABELS = 64e6;

const parseName = (path: string) => {
  const [, prefix, set, kind, gz] = NAME.exec(path) ?? [];
  if (prefix === undefined || set === undefined || kind === undefined) return null;
  const split: Split = set.toLowerCase() === 'train' ? 'train' : 'test';
  return { key: `${prefix} ${split}`, split, images: /^images/i.test(kind), gzipped: gz !== undefined };
};

export const idx: Format = {
  detect: (files) => files.some(({ path }) => parseName(path)?.images),
  read(files, annotations) {
    const layout: Layout = { images: new Map(), skipped: [], warnings: [], target: 'label', idx: [] };
    const parsed = files.map(({ path }) => ({ path, name: parseName(path) }));
    const seen = new Set<string>();
    for (const { path, name } of parsed) {
      if (!name) {
        layout.skipped.push(unlabelled(path, 'not an idx file named like train-images-idx3-ubyte'));
        continue;
      }
      const role = `${name.key} ${name.images}`;
      if (seen.has(role)) throw new DatasetError('format-invalid', 'there are two such idx files', path);
      seen.add(role);
      const other = parsed.find((one) => one.name?.key === name.key && one.name.images !== name.images);
      if (!other)
        throw new DatasetError('format-invalid', 'images or labels of this idx file are missing', path);
      if (name.images)
        layout.idx!.push({
          path,
          gzipped: name.gzipped,
          split: name.split,
          labels: readLabels(annotations.get(other.path)!, other.name!.gzipped, other.path),
        });
    }
    if (layout.idx!.length === 0)
      throw new DatasetError('format-invalid', 'there is no file named like train-images-idx3-ubyte');
    return layout;
  },
};

function readLabels(bytes: Buffer, gzipped: boolean, path: string): Uint8Array {
  let data = bytes;
  if (gzipped)
    try {
      data = gunzipSync(bytes, { maxOutputLength: LARGEST_LABELS });
    } catch (error) {
      throw new DatasetError(
        'format-invalid',
        `the labels cannot be unpacked: ${(error as Error).message}`,
        path,
      );
    }
  if (data.length < 8 || data.readUInt32BE(0) !== 0x801)
    throw new DatasetError('format-invalid', 'not an idx file of one dimension of unsigned bytes', path);
  const count = data.readUInt32BE(4);
  if (data.length !== 8 + count)
    throw new DatasetError(
      'format-invalid',
      `the header names ${count} labels, the file holds ${data.length - 8}`,
      path,
    );
  return data.subarray(8);
}

export interface IdxHeader {
  count: number;
  height: number;
  width: number;
}

/** @throws {DatasetError} when the header cannot be true. */
function readImagesHeader(head: Buffer, set: IdxSet): IdxHeader {
  const refuse = (why: string): never => {
    throw new DatasetError('format-invalid', why, set.path);
  };
  if (head.length < 16 || head.readUInt32BE(0) !== 0x803)
    refuse('not an idx file of three dimensions of unsigned bytes');
  const [count, height, width] = [head.readUInt32BE(4), head.readUInt32BE(8), head.readUInt32BE(12)];
  if (count !== set.labels.length) refuse(`${count} images, but ${set.labels.length} labels`);
  if (!(width >= 1 && height >= 1 && width <= 4096 && height <= 4096))
    refuse(`images of ${width}x${height} are not supported`);
  return { count, height, width };
}

/** The images of one member, as raw grey pixels [height, width], from its stream. */
export async function* idxImages(
  chunks: AsyncIterable<Buffer>,
  set: IdxSet,
): AsyncGenerator<{ header: IdxHeader; index: number; pixels: Buffer }> {
  const lying = () =>
    new DatasetError(
      'format-invalid',
      `the file does not hold the ${set.labels.length} images its header names`,
      set.path,
    );
  let left: Buffer = Buffer.alloc(0);
  let header: IdxHeader | null = null;
  let index = 0;
  for await (const chunk of chunks) {
    left = left.length === 0 ? chunk : Buffer.concat([left, chunk]);
    let at = 0;
    if (!header && left.length >= 16) {
      header = readImagesHeader(left, set);
      at = 16;
    }
    if (!header) continue;
    const size = header.width * header.height;
    for (; left.length - at >= size && index < header.count; at += size)
      yield { header, index: index++, pixels: Buffer.from(left.subarray(at, at + size)) };
    left = left.subarray(at);
    if (index === header.count && left.length > 0) throw lying();
  }
  if (!header) readImagesHeader(left, set);
  if (!header || index !== header.count) throw lying();
}
