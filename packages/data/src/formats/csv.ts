import { AGES, DatasetError, type ReportItem } from '@ntaa/contracts';
import { parse } from 'csv-parse/sync';
import { skip, splitNamed, unlabelled, type Annotation, type Format, type Layout } from './layout.js';

const isTable = (path: string) => /(^|\/)labels\.csv$/i.test(path);
/** More are not looked at: nobody labels by hand what would need them. */
const MOST_COLUMNS = 1000;
const MOST_ROWS = 500_000;
const TARGETS = ['label', 'identity', 'gender', 'age'] as const;
const KNOWN = ['path', 'split', 'camera', 'domain', ...TARGETS] as readonly string[];
/** Further columns that are kept, and characters of their values. */
const ATTRIBUTES = { columns: 8, length: 40 };

/**
 * `labels.csv` with `path` (relative to it) and any of label, identity, camera, age, gender, domain, split; with none of
 * them the images are unlabelled. Further columns are kept as attributes. Splits may also be called query and gallery.
 */
export const csv: Format = {
  detect: (files) => files.some(({ path }) => isTable(path)),
  read(files, annotations) {
    const table = files
      .map(({ path }) => path)
      .filter(isTable)
      .sort((a, b) => a.split('/').length - b.split('/').length)[0];
    if (table === undefined) throw new DatasetError('format-invalid', 'there is no labels.csv');
    const folder = table.slice(0, table.lastIndexOf('/') + 1);
    const { rows, target } = readTable(annotations.get(table)!, table);
    const known = new Set(files.map(({ path }) => path));
    const layout: Layout = { images: new Map(), skipped: [], warnings: [], target };
    const conflicting = new Set<string>();
    for (const { line, values } of rows) {
      const path = folder + plain(values.path);
      const annotation = annotate(path.slice(folder.length), values, target);
      if ('code' in annotation) layout.skipped.push({ ...annotation, path: `${table}:${line}` });
      else if (!known.has(path) || path === table)
        layout.skipped.push(
          skip(path, 'missing-file', `line ${line} names a file that is not in the archive`),
        );
      else add(layout, conflicting, path, annotation, line);
    }
    for (const path of conflicting) layout.images.delete(path);
    refuseImpossibleAges(rows, layout);
    for (const { path } of files)
      if (path !== table && !layout.images.has(path) && !conflicting.has(path))
        layout.skipped.push(unlabelled(path, 'no row of labels.csv names the file'));
    return layout;
  },
};

interface Row {
  line: number;
  values: Record<string, string>;
}

function readTable(bytes: Buffer, table: string): { rows: Row[]; target: Layout['target'] } {
  const refuse = (why: string): never => {
    throw new DatasetError('format-invalid', `labels.csv ${why}`, table);
  };
  let text = '';
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes); // drops a byte order mark
  } catch {
    refuse('is not UTF-8');
  }
  const header = text.slice(0, text.search(/[\r\n]|$/));
  const delimiter = [',', ';', '\t'].find((mark) => header.includes(mark)) ?? ',';
  let records: { info: { lines: number }; record: Record<string, string> }[] = [];
  let columns: string[] = [];
  try {
    records = parse(text, {
      delimiter,
      columns: (names: string[]) => {
        if (names.length > MOST_COLUMNS) throw new Error(`it has more than ${MOST_COLUMNS} columns`);
        return (columns = names.map((name) => name.trim().toLowerCase()));
      },
      // One more than there may be, to see that there are more.
      to: MOST_ROWS + 1,
      info: true,
      skip_empty_lines: true,
      relax_column_count_less: true,
      trim: true,
    }) as unknown as typeof records;
  } catch (error) {
    refuse(`cannot be read: ${(error as Error).message}`);
  }
  if (records.length > MOST_ROWS) refuse(`has more than ${MOST_ROWS} rows`);
  if (!columns.includes('path')) refuse('has no column "path"');
  const repeated = columns.find((name, i) => name !== '' && columns.indexOf(name) !== i);
  if (repeated !== undefined) refuse(`has two columns "${repeated}"`);
  const target = TARGETS.find((name) => columns.includes(name)) ?? null;
  return { rows: records.map(({ info, record }) => ({ line: info.lines, values: record })), target };
}

const plain = (path = '') =>
  path
    .replaceAll('\\', '/')
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/')
    .normalize('NFC');

/** What a row says, or why it says nothing. */
function annotate(
  path: string,
  values: Record<string, string>,
  target: Layout['target'],
): Annotation | Omit<ReportItem, 'path'> {
  const invalid = (detail: string) => ({ code: 'csv-row-invalid', detail });
  if (path === '') return invalid('the path is empty');
  const label = (target && values[target]) || null;
  if (target && !TARGETS.some((name) => values[name])) return invalid(`${path} has no ${target}`);
  const role = ROLES[values.split?.toLowerCase() ?? ''];
  const split = role ? 'test' : values.split ? splitNamed(values.split) : null;
  if (values.split && !split)
    return invalid(`"${values.split}" is not train, validation, test, query or gallery`);
  const annotation: Annotation = { path, label: label?.normalize('NFC') ?? null, split };
  if (role) annotation.role = role;
  if (values.age) {
    const age = ageOf(values.age);
    if (age === null) return invalid(`"${values.age}" is not an age in years, ${AGES.least} to ${AGES.most}`);
    annotation.age = age;
  }
  for (const name of ['identity', 'camera', 'gender', 'domain'] as const)
    if (values[name]) annotation[name] = values[name];
  const further = Object.entries(values)
    .filter(([name, value]) => name && value && !KNOWN.includes(name) && value.length <= ATTRIBUTES.length)
    .slice(0, ATTRIBUTES.columns);
  if (further.length > 0) annotation.attributes = Object.fromEntries(further);
  return annotation;
}

const ROLES: Readonly<Record<string, 'query' | 'gallery'>> = { query: 'query', gallery: 'gallery' };

function ageOf(text: string): number | null {
  const age = Number(text);
  return age >= AGES.least && age <= AGES.most ? age : null;
}

/** Rows with an impossible age are skipped; a table that has no others says nothing of ages. */
function refuseImpossibleAges(rows: readonly Row[], layout: Layout): void {
  const first = rows.find(({ values }) => values.age && ageOf(values.age) === null);
  if (!first || [...layout.images.values()].some(({ age }) => age !== undefined)) return;
  throw new DatasetError(
    'degenerate-target',
    `no row of labels.csv has an age that people have (${AGES.least} to ${AGES.most} years); the first is "${first.values.age}"`,
    `line ${first.line}`,
  );
}

function add(
  layout: Layout,
  conflicting: Set<string>,
  path: string,
  annotation: Annotation,
  line: number,
): void {
  const before = layout.images.get(path);
  if (!before) {
    layout.images.set(path, annotation);
  } else if (JSON.stringify(before) === JSON.stringify(annotation)) {
    layout.warnings.push(skip(path, 'duplicate-row', `line ${line} repeats an earlier row`));
  } else if (!conflicting.has(path)) {
    conflicting.add(path);
    layout.skipped.push(skip(path, 'label-conflict', `line ${line} contradicts an earlier row`));
  }
}
