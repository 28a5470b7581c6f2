import type { TaskName } from '@ntaa/contracts';
import { classification } from './classification.js';
import type { Task } from './task.js';

export type { Task } from './task.js';

const implemented: readonly Task[] = [classification];

/** The implementation of a task; throws for one that is not built yet. */
export function taskFor(name: TaskName): Task {
  const task = implemented.find((candidate) => candidate.name === name);
  if (!task)
    throw new Error(`the task ${name} is not implemented; implemented: ${implemented.map((t) => t.name)}`);
  return task;
}
