/** Chooses and initialises the TensorFlow.js backend. */
import * as tf from '@tensorflow/tfjs-core';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { registerFused } from './fused.js';
import { connect, KERNEL_VERSION } from './heap.js';
import { install } from './install.js';

export type EngineChoice = 'auto' | 'tensorflow-gpu' | 'tensorflow' | 'wasm';

export interface EngineInfo {
  kind: 'tensorflow-gpu' | 'tensorflow' | 'wasm';
  /** Engine, version and kernel build, e.g. "wasm-relaxed 4.22.0+k1": part of a model's lineage. */
  name: string;
  /** Why it was chosen: one log line. */
  reason: string;
}

let ready: Promise<EngineInfo> | undefined;

/** Initialises the engine once per process; later calls return the same engine and may not ask for another kind. */
export async function initEngine(choice: EngineChoice = 'auto'): Promise<EngineInfo> {
  ready ??= start(choice);
  return ready;
}

async function start(_choice: EngineChoice): Promise<EngineInfo> {
  await import(new URL('../generated/gradients.mjs', import.meta.url).href);
  const { setWasmPaths } = await import('@tensorflow/tfjs-backend-wasm');
  const main = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm');
  setWasmPaths(`${dirname(main)}/`);
  await tf.setBackend('wasm');
  await tf.ready();
  const { registerComposed } = await import('./composed-kernels.js');
  registerComposed();
  const heap = connect(tf.backend());
  registerFused();
  install(heap);
  return {
    kind: 'wasm',
    name: `wasm-${heap.build} ${tf.version_core}+${KERNEL_VERSION}`,
    reason: 'embedded engine',
  };
}

/** Bytes and number of live tensors. */
export function memory(): { bytes: number; tensors: number } {
  const { numBytes, numTensors } = tf.memory();
  return { bytes: numBytes, tensors: numTensors };
}
