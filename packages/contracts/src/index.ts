export * from './dataset.js';
export * from './genotype.js';
export * from './ids.js';
export * from './job.js';
export * from './list.js';
export * from './model.js';
export * from './problem.js';
export * from './queue.js';
