// Who writes schemas of its own takes their language from here, too: built, it is one file (scripts/build.mjs).
export { Type, type Static, type TSchema } from 'typebox';
export * from './api-key.js';
export * from './dataset.js';
export * from './evidence.js';
export * from './genotype.js';
export * from './ids.js';
export * from './job.js';
export * from './list.js';
export * from './metrics.js';
export * from './model.js';
export * from './problem.js';
export * from './queue.js';
export * from './task.js';
export * from './tenant.js';
export * from './upload.js';
export * from './webhook.js';
export * from './worker.js';
