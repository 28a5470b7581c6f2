export { openQueue } from './open.js';
export { CATALOGUE, type JobRule } from './catalogue.js';
export type { Queue, QueueCounts, Handler, AddOptions, Closable, QueueOptions } from './queue.js';
