export { openQueue } from './open.js';
export { CATALOGUE, type JobRule } from './catalogue.js';
export type { Queue, QueueCounts, Handler, AddOptions, Closable, Intake, QueueOptions } from './queue.js';
