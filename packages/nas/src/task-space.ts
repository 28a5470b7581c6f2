/** How a task changes a search space, and how wide its head is: what the service must know without tensors. */
import type { SearchSpace, TaskName } from '@ntaa/contracts';

/** One bin a year, 0 to 100; whoever is older counts as 100. */
export const AGE_BINS = 101;

/** People seen whole are about twice as tall as wide: 256 x 128 px is what papers on Market-1501 use. */
const PORTRAIT = 2;

/**
 * Height : width of a task's inputs, by the median one of its images. Only re-identification looks at images taller than
 * wide as such; for other tasks, and for all other images, inputs are square.
 */
export const inputAspect = (task: TaskName, median: number): number =>
  task === 're-identification' && median >= Math.sqrt(PORTRAIT) ? PORTRAIT : 1;

/**
 * The space a task searches inside a supernet's, with inputs of that aspect. Re-identification looks at fine detail and
 * compares embeddings: its last stage keeps its resolution, and a batch norm stands before its classifier (Luo et al., Bag
 * of Tricks, CVPRW 2019).
 */
export function taskSpace(task: TaskName, space: SearchSpace, aspect = 1): SearchSpace {
  if (task !== 're-identification') return space;
  const last = space.stages.length - 1;
  return {
    ...space,
    ...(aspect !== 1 && { aspect }),
    stages: space.stages.map((stage, i) => (i === last ? { ...stage, stride: 1 } : stage)),
    head: { ...space.head, neck: true },
  };
}

/** Outputs of the task's classifier over `classes` classes. */
export const headOutputs = (task: TaskName, classes: number): number =>
  task === 'age-estimation' ? AGE_BINS : classes;
