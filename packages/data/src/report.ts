import {
  COLUMNS,
  DatasetError,
  type ColumnCounts,
  type DatasetCounts,
  type DatasetFormat,
  type DatasetReport,
  type ReportItem,
} from '@ntaa/contracts';
import type { Annotation, Layout } from './formats/layout.js';
import type { Fingerprint } from './fingerprint.js';
import type { ImageError } from './image.js';
import { findNearDuplicates } from './near-duplicates.js';
import type { IngestResult, Sample } from './types.js';

/** An accepted image whose label is still a name. */
export type Accepted = Annotation &
  Omit<Sample, 'label' | 'repeats' | keyof Annotation> & { print: Fingerprint | null };

const LISTED = 1000;
/** Sample.label of an image that has none. */
const UNLABELLED = -1;
/** Characters of a path or sentence of the report, and of a label. */
const LONGEST_TEXT = 1200;
const LONGEST_LABEL = 255;
/** Characters that no database stores: NUL, and halves of surrogate pairs. */
const UNSTORABLE = /[\0\p{Cs}]/gu;
const SMALL_CLASS = 10;
const FEWEST_IMAGES = 10;
/** Pairs named of many near-duplicates. */
const EXAMPLES = 5;

/** What is found on the way: the report's lists. */
export class Findings {
  readonly skipped: ReportItem[] = [];
  readonly warnings: ReportItem[] = [];

  skip(path: string, { code, message }: ImageError): void {
    this.skipped.push({ path, code, detail: message });
  }
  warn(path: string, code: string, detail: string): void {
    this.warnings.push({ path, code, detail });
  }
  report(error: DatasetError | null, sizes: DatasetReport['sizes']): DatasetReport {
    return {
      error: error && {
        code: error.code,
        detail: printable(error.message),
        where: error.where === undefined ? null : printable(error.where),
      },
      skipped: capped(this.skipped),
      warnings: capped(this.warnings),
      sizes,
    };
  }
}

/** The first thousand, and one line that counts the others. */
function capped(items: readonly ReportItem[]): ReportItem[] {
  const listed = items.slice(0, LISTED).map(({ path, code, detail }) => ({
    path: printable(path),
    code,
    detail: printable(detail),
  }));
  const more = items.length - LISTED;
  return more > 0 ? [...listed, { path: '', code: 'more', detail: `and ${more} more` }] : listed;
}

/** What an archive or an annotation calls something, so that it can be stored and read. */
function printable(text: string): string {
  const clean = text.replace(UNSTORABLE, '\ufffd');
  return clean.length > LONGEST_TEXT ? `${clean.slice(0, LONGEST_TEXT)}…` : clean;
}

/** A dataset that is refused whole, with everything that had been found until then. */
export class RefusedDataset extends DatasetError {
  readonly report: DatasetReport;
  constructor(cause: DatasetError, findings: Findings) {
    super(cause.code, cause.message, cause.where);
    this.report = findings.report(cause, null);
  }
}

/** Numbers in numeric order when all are numbers, otherwise by code point. */
function labelNames(labels: Iterable<string>): string[] {
  const names = [...new Set(labels)];
  if (names.every((name) => /^\d{1,9}$/.test(name)))
    return names.sort((a, b) => Number(a) - Number(b) || (a < b ? -1 : 1));
  return names.sort((a, b) => (a < b ? -1 : 1));
}

/**
 * Counts, labels and warnings of what was accepted.
 * @throws {DatasetError} when there is nothing to learn from it.
 */
export function judge(
  format: DatasetFormat,
  target: Layout['target'],
  accepted: Accepted[],
  findings: Findings,
): IngestResult {
  accepted.sort((a, b) => (a.path < b.path ? -1 : 1));
  const names = labelNames(accepted.flatMap(({ label }) => label ?? []));
  const position = new Map(names.map((name, i) => [name, i]));
  const { repeats, uniform } = findNearDuplicates(
    accepted.map((image) => ({ ...image, label: image.label ?? '' })),
  );
  const samples = accepted.map(({ print: _, ...image }, i): Sample => {
    const first = accepted[repeats[i] ?? -1];
    const label = image.label === null ? UNLABELLED : position.get(image.label)!;
    return { ...image, label, ...(first && { repeats: first.path }) };
  });
  const labels = names.map((name) => ({ name, count: 0 }));
  for (const { label } of samples) if (label !== UNLABELLED) labels[label]!.count++;
  const columns = columnCounts(samples, target);
  refuse(samples, labels, { target, columns }, findings);
  for (const { name, count } of labels)
    if (target !== 'age' && count < SMALL_CLASS)
      findings.warn('', 'class-small', `class ${name} has ${count} images`);
  warnOfDuplicates(samples, names, findings);
  warnOfNearDuplicates(samples, findings);
  for (const name of uniform)
    findings.warn(
      '',
      'class-uniform',
      `the images of class ${name} look so much alike that none can be kept apart`,
    );
  const splits = splitCounts(samples);
  if (splits && target === 'label') warnOfSplits(samples, names, findings);
  const counts: DatasetCounts = {
    images: samples.length,
    skipped: findings.skipped.length,
    bytes: samples.reduce((sum, { length }) => sum + length, 0),
    pixels: samples.reduce((sum, { width, height }) => sum + width * height, 0),
    aspect: medianAspect(samples),
    classes: names.length,
    columns,
    splits,
  };
  return {
    index: { format, labels: names, samples },
    counts,
    labels,
    report: findings.report(null, sizesOf(samples)),
  };
}

function refuse(
  samples: readonly Sample[],
  labels: readonly { name: string; count: number }[],
  { target, columns }: { target: Layout['target']; columns: ColumnCounts },
  findings: Findings,
): void {
  const first = findings.skipped[0];
  if (samples.length === 0)
    throw new DatasetError(
      'no-images',
      `no file is a usable image${first ? `; the first, ${first.path}: ${first.detail}` : ''}`,
    );
  const odd = labels.find(({ name }) => name.length > LONGEST_LABEL || printable(name) !== name);
  if (odd)
    throw new DatasetError(
      'format-invalid',
      `the label ${JSON.stringify(odd.name.slice(0, 40))} has more than ${LONGEST_LABEL} characters, or a NUL`,
    );
  if (samples.length < FEWEST_IMAGES)
    throw new DatasetError('too-few-images', `${samples.length} usable images; ${FEWEST_IMAGES} are needed`);
  // Images without labels can be a target of adaptation, and those that do not vary in one column may in another.
  const others = (['identity', 'age', 'gender'] as const).filter((name) => name !== target);
  if (target === null || others.some((name) => (columns[name]?.values ?? 0) > 1)) return;
  if (labels.length < 2 && target !== 'label')
    throw new DatasetError('degenerate-target', `every image has the ${target} "${labels[0]?.name}"`);
  if (labels.length < 2)
    throw new DatasetError('too-few-classes', `all images are of class "${labels[0]?.name}"; two are needed`);
  const single = labels.filter(({ count }) => count < 2).length;
  if (single * 2 > labels.length && target !== 'age')
    throw new DatasetError('too-few-images', `${single} of ${labels.length} classes have a single image`);
  const given = samples.some(({ split }) => split !== null);
  const trained = new Set(
    samples.filter(({ split }) => (split ?? 'train') === 'train').map(({ label }) => label),
  );
  if (given && trained.size < 2)
    throw new DatasetError('degenerate-target', `the training split has images of ${trained.size} classes`);
}

/** Genders serve as labels where there are no others. */
function columnCounts(samples: readonly Sample[], target: Layout['target']): ColumnCounts {
  const labelled = target === 'label' || target === 'gender';
  const valueOf = (sample: Sample, name: (typeof COLUMNS)[number]) =>
    name === 'label' ? (labelled && sample.label !== UNLABELLED ? sample.label : undefined) : sample[name];
  return Object.fromEntries(
    COLUMNS.flatMap((name) => {
      const values = samples.flatMap((sample) => valueOf(sample, name) ?? []);
      return values.length > 0 ? [[name, { images: values.length, values: new Set(values).size }]] : [];
    }),
  );
}

function warnOfDuplicates(samples: readonly Sample[], names: readonly string[], findings: Findings): void {
  const first = new Map<string, Sample>();
  for (const sample of samples) {
    const same = first.get(sample.sha1);
    if (!same) first.set(sample.sha1, sample);
    else if (same.label !== sample.label)
      findings.warn(
        sample.path,
        'label-conflict',
        `labelled ${names[sample.label]}, but ${same.path} has the same bytes and is labelled ${names[same.label]}`,
      );
    else findings.warn(sample.path, 'duplicate-image', `the same bytes as ${same.path}`);
    if (same && same.split !== sample.split)
      findings.warn(sample.path, 'split-leak', `the same bytes as ${same.path} in another split`);
  }
}

/** One line for all of them, with examples; and one for each that crosses splits which the archive names. */
function warnOfNearDuplicates(samples: readonly Sample[], findings: Findings): void {
  const byPath = new Map(samples.map((sample) => [sample.path, sample]));
  const copies = samples.filter(({ repeats }) => repeats !== undefined);
  if (copies.length === 0) return;
  const examples = copies.slice(0, EXAMPLES).map(({ path, repeats }) => `${path} and ${repeats}`);
  const more = copies.length > examples.length ? '; …' : '';
  findings.warn(
    '',
    'near-duplicates',
    `${copies.length} images show the same picture as another of their class, re-encoded or resized, and go to the ` +
      `same split as it: ${examples.join('; ')}${more}`,
  );
  for (const { path, split, repeats } of copies)
    if (byPath.get(repeats!)!.split !== split)
      findings.warn(path, 'split-leak', `shows the same picture as ${repeats} in another split`);
}

function warnOfSplits(samples: readonly Sample[], names: readonly string[], findings: Findings): void {
  for (const split of ['train', 'test'] as const) {
    const part = samples.filter((sample) => (sample.split ?? 'train') === split);
    if (part.length === 0) continue;
    const present = new Set(part.map(({ label }) => label));
    for (const [label, name] of names.entries())
      if (!present.has(label)) findings.warn('', 'class-missing', `class ${name} has no image in ${split}`);
  }
}

function splitCounts(samples: readonly Sample[]): DatasetCounts['splits'] {
  if (samples.every(({ split }) => split === null)) return null;
  const counts = { train: 0, validation: 0, test: 0 };
  for (const { split } of samples) counts[split ?? 'train']++;
  return counts;
}

/** Median height : width of images, to the second decimal. */
export function medianAspect(samples: readonly Pick<Sample, 'width' | 'height'>[]): number {
  const aspects = samples.map(({ width, height }) => height / width).sort((a, b) => a - b);
  return Math.round(100 * (aspects[aspects.length >> 1] ?? 1)) / 100;
}

function sizesOf(samples: readonly Sample[]): DatasetReport['sizes'] {
  const sides = samples.flatMap(({ width, height }) => [width, height]).sort((a, b) => a - b);
  return { min: sides[0]!, median: sides[sides.length >> 1]!, max: sides.at(-1)! };
}
