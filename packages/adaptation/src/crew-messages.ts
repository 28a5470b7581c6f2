/** What the threads of a crew say to each other: structured-clonable. */
import type { Genotype, SearchSpace } from '@ntaa/contracts';
import type { NamedTensors } from '@ntaa/supernet';
import type { Task } from '@ntaa/tasks';
import type { Evaluation, Exam } from './evaluate.js';
import type { Exchanged, Step } from './exchange.js';
import type { Hyperparameters } from './replica.js';
import type { DataHandle } from './target-data.js';

/** A network and the target it is trained or judged on. */
export interface Subject {
  space: SearchSpace;
  outputs: number;
  task: Task['name'];
  tensors: NamedTensors;
  data: DataHandle;
}

export interface Training {
  subject: Subject;
  momentum: NamedTensors | null;
  batches: { indices: readonly number[]; batchSize: number; path: readonly (string | number)[] };
  hyperparameters: Hyperparameters;
  exchanged: Exchanged;
  member: number;
}

export interface Judging {
  subject: Subject;
  genotypes: readonly Genotype[];
  exam: Exam;
  /** [0] becomes 1 when the rest is not wanted any more. */
  abandon: SharedArrayBuffer;
}

export type ToThread =
  | { type: 'train'; training: Training }
  | { type: 'step'; step: Step }
  /** Statistics of batch norms, for all steps to come. */
  | { type: 'settle'; statistics: NamedTensors }
  | { type: 'end-training' }
  | { type: 'judge'; judging: Judging };

export type FromThread =
  | { type: 'training' }
  | { type: 'judged'; index: number; evaluation: Evaluation }
  | { type: 'all-judged' }
  | { type: 'failed'; message: string };
