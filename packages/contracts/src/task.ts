/** The tasks, and what each needs of a dataset: the one place where a task is named. */
import { Type, type Static } from 'typebox';

export const TASKS = [
  'classification',
  're-identification',
  'age-estimation',
  'gender-recognition',
  'domain-adaptation',
] as const;
export const TaskName = Type.Enum([...TASKS]);
export type TaskName = (typeof TASKS)[number];

/** Columns that annotate an image, whatever the dataset's format. */
export const COLUMNS = ['label', 'identity', 'camera', 'age', 'gender', 'domain'] as const;
export type Column = (typeof COLUMNS)[number];

/** How many images have a column, and how many values it has. */
export const ColumnCount = Type.Object({ images: Type.Integer(), values: Type.Integer() });
export const ColumnCounts = Type.Object(
  Object.fromEntries(COLUMNS.map((name) => [name, Type.Optional(ColumnCount)])) as Record<
    Column,
    ReturnType<typeof Type.Optional<typeof ColumnCount>>
  >,
);
export type ColumnCounts = Static<typeof ColumnCounts>;

/** Columns that the images of a task must have, each with at least two values. Those without them are left out. */
export const TASK_COLUMNS: Readonly<Record<TaskName, readonly Column[]>> = {
  classification: ['label'],
  're-identification': ['identity', 'camera'],
  'age-estimation': ['age'],
  'gender-recognition': ['gender'],
  // Of the source; a target needs images only.
  'domain-adaptation': ['label'],
};

/** Ages that people have, years. */
export const AGES = { least: 0, most: 120 } as const;
