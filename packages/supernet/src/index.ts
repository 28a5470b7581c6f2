/** The weight-shared network: one set of weights, every architecture of a search space. */
export { builtinSupernet, type BuiltinSupernet, type SupernetCard } from './builtin.js';
export { BnCollector, BnStatistics, calibrate } from './batch-norm.js';
export { extract } from './extract.js';
export {
  lossGradients,
  type BatchOutputs,
  type Loss,
  type LossOfOutputs,
  type Objective,
} from './loss-gradients.js';
export {
  fold,
  LEAST_LENGTH,
  runStatic,
  type Delivery,
  type StaticGraph,
  type StaticNode,
} from './static-graph.js';
export { readSafetensors, writeSafetensors } from './safetensors.js';
export { Supernet } from './supernet.js';
export type { NamedTensors, PlainTensor } from './tensors.js';
