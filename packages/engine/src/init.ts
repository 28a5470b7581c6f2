/** Chooses and initialises the TensorFlow.js backend, once per process. */
import * as tf from '@tensorflow/tfjs-core';
import { startTensorflow } from './tensorflow.js';
import { startEmbedded, startWasm, warnOfStock } from './wasm.js';

export type EngineChoice = 'auto' | 'tensorflow-gpu' | 'tensorflow' | 'wasm';

export interface EngineInfo {
  kind: 'tensorflow-gpu' | 'tensorflow' | 'wasm';
  /** Engine, version and kernel build, e.g. "wasm-relaxed 4.22.0+k2": part of a model's lineage. */
  name: string;
  /** Why it was chosen: one log line. */
  reason: string;
}

let started: Promise<EngineInfo> | undefined;

/**
 * Initialises the engine: the one named, or with 'auto' the fastest that really starts: a GPU, then our own kernels,
 * which leave TensorFlow behind on a CPU (docs/engine.md), and TensorFlow where those cannot be used. Later calls
 * return the same engine; asking for another kind then is an error, as is a named engine that cannot start (the message
 * says what to do).
 */
export async function initEngine(choice: EngineChoice = 'auto'): Promise<EngineInfo> {
  const attempt = (started ??= start(choice));
  try {
    const info = await attempt;
    if (choice !== 'auto' && choice !== info.kind)
      throw new Error(
        `this process already runs ${info.name}; start another process for the engine ${choice}`,
      );
    return info;
  } catch (error) {
    if (started === attempt && !tf.getBackend()) started = undefined;
    throw error;
  }
}

async function start(choice: EngineChoice): Promise<EngineInfo> {
  // The Node bundle of tfjs-core has neither gradients nor chained ops; see kernels/build.mjs.
  await import(new URL('../generated/gradients.mjs', import.meta.url).href);
  switch (choice) {
    case 'wasm':
      return startWasm('asked for');
    case 'tensorflow':
    case 'tensorflow-gpu':
      return startTensorflow(choice, 'asked for');
    case 'auto':
      return startFirst();
    default:
      throw new Error(`unknown engine ${String(choice)}: use auto, tensorflow-gpu, tensorflow or wasm`);
  }
}

async function startFirst(): Promise<EngineInfo> {
  const so = 'chosen automatically';
  const absent: string[] = [];
  const native = async (kind: 'tensorflow-gpu' | 'tensorflow'): Promise<EngineInfo | undefined> => {
    try {
      return await startTensorflow(kind, [so, ...absent].join('; '));
    } catch (error) {
      const [cause] = (error instanceof Error ? error.message : String(error)).split(':');
      absent.push(`no ${kind} (${cause})`);
      return undefined;
    }
  };
  const gpu = await native('tensorflow-gpu');
  if (gpu) return gpu;
  const { info, problem } = await startEmbedded([`${so}, the fastest without a GPU`, ...absent].join('; '));
  if (problem === undefined) return info;
  absent.push(`no kernels of our own (${problem})`);
  const cpu = await native('tensorflow');
  if (cpu) return cpu;
  await tf.setBackend('wasm');
  warnOfStock(problem);
  return { ...info, reason: [so, ...absent].join('; ') };
}

/**
 * Bytes that the engine holds in this thread: its WebAssembly heap, which only grows, or, on native engines, live tensors: what a
 * GPU's driver and its allocator take beside them is not known here.
 */
export function heldBytes(): number {
  const { wasm } = tf.backend() as { wasm?: { asm: { memory: WebAssembly.Memory } } };
  return wasm?.asm.memory.buffer.byteLength ?? tf.memory().numBytes;
}

/** Bytes and number of live tensors. */
export function memory(): { bytes: number; tensors: number } {
  const { numBytes, numTensors } = tf.memory();
  return { bytes: numBytes, tensors: numTensors };
}
