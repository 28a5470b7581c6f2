import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, open, rename, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { DatasetError, type DatasetFormat } from '@ntaa/contracts';
import { corrupt, readAll, type ArchiveEntry } from './archive/entry.js';
import { openArchive, type Archive } from './archive/open.js';
import { isJunk } from './archive/path.js';
import { findLayout } from './formats/detect.js';
import { idxImages } from './formats/idx.js';
import {
  isAnnotation,
  type Annotation,
  type IdxSet,
  type Layout,
  type ListedFile,
} from './formats/layout.js';
import { ImageError, inspectImage, type ImageFacts } from './image.js';
import { ordered } from './ordered.js';
import { encodeGreyPng } from './png.js';
import { Findings, judge, RefusedDataset, type Accepted } from './report.js';
import type { IngestLimits, IngestResult, Progress } from './types.js';

export interface IngestOptions {
  /** Local file; its kind (zip, tar, gzip'd tar) is told by content. */
  archive: string;
  /** Folder that gets images.bin (accepted encoded images, one after the other) and index.json, only when all went well. */
  out: string;
  /** Folder for temporary files; nothing of ours is left there, failure or not. */
  scratch: string;
  /** Default: detected. */
  format?: DatasetFormat;
  limits?: Partial<IngestLimits>;
  onProgress?: Progress;
  signal?: AbortSignal;
}

export const DEFAULT_LIMITS: IngestLimits = {
  entries: 200_000,
  unpackedBytes: 8e9,
  ratio: 200,
  imageBytes: 64e6,
  imagePixels: 50e6,
  annotationBytes: 64e6,
  classes: 10_000,
};

/** Images verified at a time; also bounds the encoded images in memory. */
const PARALLEL = 2;

/**
 * Reads an archive twice: once for its names and annotations, once for the images, each of which is decoded to prove
 * that it is whole. Memory does not grow with the archive beyond its list of names and 768 bytes for each image, by
 * which pictures that are there twice are found.
 * @throws {RefusedDataset} (a DatasetError with the report so far) for what is refused whole.
 */
export async function ingest(options: IngestOptions): Promise<IngestResult> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const findings = new Findings();
  await mkdir(options.scratch, { recursive: true });
  const folder = await mkdtemp(join(options.scratch, 'ingest-'));
  try {
    const archive = await openArchive(options.archive, limits);
    options.onProgress?.(0, 'reading the list of files');
    const { files, annotations } = await list(archive, limits, options.signal);
    const { format, layout } = findLayout(files, annotations, options.format);
    findings.skipped.push(...layout.skipped);
    findings.warnings.push(...layout.warnings);
    refuseTooManyClasses(layout, limits);
    const images = join(folder, 'images.bin');
    const accepted = await collect(archive, layout, images, findings, limits, options);
    const result = judge(format, layout.target, accepted, findings);
    await writeFile(join(folder, 'index.json'), JSON.stringify(result.index));
    await mkdir(options.out, { recursive: true });
    await move(images, join(options.out, 'images.bin'));
    await move(join(folder, 'index.json'), join(options.out, 'index.json'));
    return result;
  } catch (error) {
    if (error instanceof DatasetError) throw new RefusedDataset(error, findings);
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** First pass: every entry is judged before any is used. */
async function list(
  archive: Archive,
  limits: IngestLimits,
  signal?: AbortSignal,
): Promise<{ files: ListedFile[]; annotations: Map<string, Buffer> }> {
  const files: ListedFile[] = [];
  const annotations = new Map<string, Buffer>();
  let left = limits.annotationBytes;
  for await (const entry of archive.entries()) {
    signal?.throwIfAborted();
    if (isJunk(entry.path)) continue;
    files.push({ path: entry.path, size: entry.size });
    if (!isAnnotation(entry.path)) continue;
    left -= entry.size;
    if (left < 0)
      throw new DatasetError(
        'archive-too-large',
        `annotation files have more than ${limits.annotationBytes} bytes`,
        entry.path,
      );
    annotations.set(entry.path, await readAll(entry));
  }
  return { files, annotations };
}

function refuseTooManyClasses(layout: Layout, limits: IngestLimits): void {
  const classes = new Set([...layout.images.values()].map(({ label }) => label)).size;
  if (classes > limits.classes)
    throw new DatasetError('too-many-classes', `${classes} classes; at most ${limits.classes} are supported`);
}

interface Candidate {
  annotation: Annotation;
  /** null: too large to be read. */
  bytes: Buffer | null;
  /** Known already of images that were encoded here. */
  facts?: ImageFacts;
}
type Judged = Omit<Candidate, 'facts'> & { facts: ImageFacts | ImageError };

/** Second pass: appends the images that prove whole to `file`. */
async function collect(
  archive: Archive,
  layout: Layout,
  file: string,
  findings: Findings,
  limits: IngestLimits,
  { onProgress, signal }: IngestOptions,
): Promise<Accepted[]> {
  const accepted: Accepted[] = [];
  const out = await open(file, 'w');
  try {
    let offset = 0;
    let seen = 0;
    const total = layout.idx?.reduce((sum, set) => sum + set.labels.length, 0) ?? layout.images.size;
    if (total > limits.entries)
      throw new DatasetError('archive-too-many-entries', `more than ${limits.entries} images`);
    const inspect = async (candidate: Candidate): Promise<Judged> => ({
      ...candidate,
      facts: candidate.facts ?? (await factsOf(candidate.bytes, limits)),
    });
    for await (const { annotation, bytes, facts } of ordered(
      candidates(archive, layout, limits),
      PARALLEL,
      inspect,
    )) {
      signal?.throwIfAborted();
      if (++seen % 64 === 0 || seen === total)
        onProgress?.(seen / total, `${seen} of ${total} images checked`);
      if (facts instanceof ImageError || !bytes) {
        findings.skip(annotation.path, facts as ImageError);
        continue;
      }
      if (facts.frames > 1)
        findings.warn(annotation.path, 'image-animated', 'only the first frame of the animation is used');
      await append(out, bytes);
      const sha1 = createHash('sha1').update(bytes).digest('hex');
      const { width, height, print } = facts;
      accepted.push({ ...annotation, offset, length: bytes.length, width, height, sha1, print });
      offset += bytes.length;
    }
    return accepted;
  } finally {
    await out.close();
  }
}

async function factsOf(bytes: Buffer | null, limits: IngestLimits): Promise<ImageFacts | ImageError> {
  try {
    if (!bytes) throw new ImageError('image-too-large', `the file has more than ${limits.imageBytes} bytes`);
    return await inspectImage(bytes, limits.imagePixels);
  } catch (error) {
    if (error instanceof ImageError) return error;
    throw error;
  }
}

async function* candidates(
  archive: Archive,
  layout: Layout,
  limits: IngestLimits,
): AsyncGenerator<Candidate> {
  for await (const entry of archive.entries()) {
    const set = layout.idx?.find(({ path }) => path === entry.path);
    if (set) yield* fromIdx(entry, set, limits);
    const annotation = layout.images.get(entry.path);
    if (annotation) yield { annotation, bytes: entry.size > limits.imageBytes ? null : await readAll(entry) };
  }
}

/** Raw pixels become PNG files, so that the rest needs to know of one kind of image only. */
async function* fromIdx(entry: ArchiveEntry, set: IdxSet, limits: IngestLimits): AsyncGenerator<Candidate> {
  const name = set.path.slice(set.path.lastIndexOf('/') + 1);
  for await (const { header, index, pixels } of idxImages(unpacked(entry, set, limits), set))
    yield {
      annotation: {
        path: `${name}#${String(index).padStart(6, '0')}`,
        label: String(set.labels[index]),
        split: set.split,
      },
      bytes: encodeGreyPng(pixels, header.width, header.height),
      // Arrays of pixels are never re-encoded: what repeats is byte-identical.
      facts: { width: header.width, height: header.height, frames: 1, print: null },
    };
}

async function* unpacked(entry: ArchiveEntry, set: IdxSet, limits: IngestLimits): AsyncGenerator<Buffer> {
  if (!set.gzipped) return yield* entry.chunks();
  const source = Readable.from(entry.chunks(), { objectMode: false });
  const gunzip = createGunzip();
  source.on('error', (error) => gunzip.destroy(error));
  let bytes = 0;
  try {
    for await (const chunk of source.pipe(gunzip) as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > limits.unpackedBytes || (bytes > 1e6 && bytes > limits.ratio * entry.size))
        throw new DatasetError('archive-too-large', 'an idx file unpacks to too many bytes', entry.path);
      yield chunk;
    }
  } catch (error) {
    throw corrupt(error, entry.path);
  } finally {
    source.destroy();
  }
}

async function append(out: FileHandle, bytes: Buffer): Promise<void> {
  for (let done = 0; done < bytes.length;)
    done += (await out.write(bytes, done, bytes.length - done)).bytesWritten;
}

/** Also between file systems. */
async function move(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error;
    await copyFile(from, to);
  }
}
