import { ageEstimation } from './age-estimation.js';
import { classification } from './classification.js';
import { domainAdaptation } from './domain-adaptation.js';
import { genderRecognition } from './gender-recognition.js';
import { reIdentification } from './re-identification.js';
import { selfSupervised } from './self-supervised.js';
import type { Task } from './task.js';

export { sliceColumns, slicesOf, type SliceColumn } from './slices.js';
export type { Affine, BatchTruth, Judged, Sampler, Targets, Task, Truth } from './task.js';

const implemented: { readonly [N in Task['name']]: Task } = {
  classification,
  're-identification': reIdentification,
  'age-estimation': ageEstimation,
  'gender-recognition': genderRecognition,
  'domain-adaptation': domainAdaptation,
  'self-supervised': selfSupervised,
};

/** The implementation of a task. */
export const taskFor = (name: Task['name']): Task => implemented[name];
