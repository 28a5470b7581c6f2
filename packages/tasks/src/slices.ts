/** Quality by the dataset's other columns: where a model is worse, and how sure that is. */
import type { Slice } from '@ntaa/contracts';
import type { Sample } from '@ntaa/data';
import { wilsonInterval } from '@ntaa/nas';

/** A column of the images, by position; -1 where an image has no value. Structured-clonable. */
export interface SliceColumn {
  name: string;
  values: readonly string[];
  of: Int32Array;
}

/** A column of more values tells images apart, not groups. */
const MOST_VALUES = 30;
const BAND = 10;
const OLDEST_BAND = 80;

/** The columns that images of a task can be told apart by; `target`: the one that is to be told. Identity is none. */
export function sliceColumns(samples: readonly Sample[], target: 'gender' | undefined): SliceColumn[] {
  const attributes = new Set(samples.flatMap((sample) => Object.keys(sample.attributes ?? {})));
  const readers: [string, (sample: Sample) => string | undefined][] = [
    ['age_band', ({ age }) => (age === undefined ? undefined : bandOf(age))],
    ...(['gender', 'camera', 'domain'] as const).map(
      (name): [string, (sample: Sample) => string | undefined] => [name, (sample) => sample[name]],
    ),
    ...[...attributes]
      .sort()
      .map((name): [string, (sample: Sample) => string | undefined] => [
        name,
        (sample) => sample.attributes?.[name],
      ]),
  ];
  return readers.flatMap(([name, read]) => {
    const values = [...new Set(samples.flatMap((sample) => read(sample) ?? []))].sort();
    if (name === target || values.length < 2 || values.length > MOST_VALUES) return [];
    const number = new Map(values.map((value, i) => [value, i]));
    return [{ name, values, of: Int32Array.from(samples, (sample) => number.get(read(sample) ?? '') ?? -1) }];
  });
}

/** `00-09`, `10-19`, … and `80+`: so that their order is that of their names. */
function bandOf(age: number): string {
  if (age >= OLDEST_BAND) return `${OLDEST_BAND}+`;
  const from = BAND * Math.floor(age / BAND);
  const two = (years: number) => String(years).padStart(2, '0');
  return `${two(from)}-${two(from + BAND - 1)}`;
}

/** Slices of the images at `indices`, whose answers are given in the same order. */
export function slicesOf(
  columns: readonly SliceColumn[],
  indices: readonly number[],
  { right, errors }: { right: readonly boolean[]; errors?: Float32Array },
): Slice[] {
  return columns.flatMap(({ name, values, of }) =>
    values.flatMap((value, v): Slice[] => {
      const members = indices.flatMap((index, i) => (of[index] === v ? [i] : []));
      if (members.length === 0) return [];
      const correct = members.filter((i) => right[i]).length;
      return [
        {
          column: name,
          value,
          images: members.length,
          accuracy: correct / members.length,
          accuracy_interval: wilsonInterval(correct, members.length),
          ...(errors && { mae: members.reduce((sum, i) => sum + errors[i]!, 0) / members.length }),
        },
      ];
    }),
  );
}
