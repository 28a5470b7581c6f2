/** How a task changes a search space, and how wide its head is: what the service must know without tensors. */
import type { SearchSpace, TaskName } from '@ntaa/contracts';

/** One bin a year, 0 to 100; whoever is older counts as 100. */
export const AGE_BINS = 101;

/**
 * The space a task searches inside a supernet's. Re-identification looks at fine detail and compares embeddings: its
 * last stage keeps its resolution, and a batch norm stands before its classifier (Luo et al., Bag of Tricks, CVPRW 2019).
 */
export function taskSpace(task: TaskName, space: SearchSpace): SearchSpace {
  if (task !== 're-identification') return space;
  const last = space.stages.length - 1;
  return {
    ...space,
    stages: space.stages.map((stage, i) => (i === last ? { ...stage, stride: 1 } : stage)),
    head: { ...space.head, neck: true },
  };
}

/** Outputs of the task's classifier over `classes` classes. */
export const headOutputs = (task: TaskName, classes: number): number =>
  task === 'age-estimation' ? AGE_BINS : classes;
