/** The training engine: one TensorFlow.js API over several backends, see docs/engine.md. */
import type {} from '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';

export * as tf from '@tensorflow/tfjs-core';
export { initEngine, memory, type EngineChoice, type EngineInfo } from './init.js';
export { affine, batchNorm, softmaxCrossEntropy, type Activation } from './ops.js';
export { emaUpdate, Sgd, type Param } from './optimizer.js';
