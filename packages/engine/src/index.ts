/** The training engine: one TensorFlow.js API over several backends, see docs/engine.md. */
import type {} from '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';

export * as tf from '@tensorflow/tfjs-core';
export { Gradients } from './gradients.js';
export { heldBytes, initEngine, memory, type EngineChoice, type EngineInfo } from './init.js';
export { affine, batchNorm, lookUp, softmaxCrossEntropy, type Activation } from './ops.js';
export { isOutOfMemory } from './out-of-memory.js';
export { emaUpdate, Sgd, type Param } from './optimizer.js';
export { native } from './native.js';
export type { Heap } from './heap.js';
export * as layers from './layers.js';
export { place, type Buffer } from './plan.js';
