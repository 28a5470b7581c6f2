/**
 * Our kernels inside tfjs-backend-wasm: a second WebAssembly module on the backend's own memory, so tensors are read
 * and written in place. This leans on private fields of tfjs-backend-wasm 4.22 (`wasm.asm.memory`, `dataIdMap`,
 * `makeOutput`): connect() checks each, and whoever calls it falls back to stock kernels when it says no.
 */
import * as tf from '@tensorflow/tfjs-core';
import { readFileSync } from 'node:fs';
import v8 from 'node:v8';
import { OutOfMemory } from './out-of-memory.js';

/** Raised when a kernel's results change in any bit: it is part of the engine's name. */
export const KERNEL_VERSION = 'k3';

type Kernel = (...args: (number | boolean)[]) => number;

const EXPORTS = [
  ...['add', 'addMoments', 'addRows', 'addTaps', 'addToRows', 'affine', 'affineAdd', 'affineGrad'],
  ...['affineGradSums', 'crop', 'cropBack', 'depthwise', 'depthwiseBackFilter', 'depthwiseBackInput', 'ema'],
  ...[
    'frame',
    'fused',
    'gather',
    'gemm',
    'lookUp',
    'moments',
    'normGrad',
    'normScale',
    'outerBlock',
    'outerStore',
  ],
  ...[
    'packPanels',
    'packPhases',
    'packTaps',
    'pad',
    'poolMean',
    'poolMeanBack',
    'scatter',
    'sgd',
    'sumSquares',
  ],
] as const;

export type Kernels = Record<(typeof EXPORTS)[number], Kernel>;

interface TensorData {
  memoryOffset: number;
  refCount: number;
}

interface Backend {
  wasm: {
    asm: { memory: WebAssembly.Memory };
    _malloc(bytes: number): number;
    _free(pointer: number): void;
  };
  dataIdMap: { get(id: object): TensorData | undefined };
  makeOutput(shape: readonly number[], dtype: 'float32'): tf.TensorInfo;
  incRef(id: object): void;
}

interface Region {
  at: number;
  bytes: number;
}

const aligned = (bytes: number) => Math.ceil(bytes / 64) * 64;

/** TensorFlow.js's heap as our kernels see it. Pointers are byte addresses. */
export class Heap {
  readonly kernels: Kernels;
  /** Which build of the kernels runs: 'simd' or 'relaxed' (fused multiply-add). */
  readonly build: string;
  readonly #backend: Backend;
  readonly #scratch: Region = { at: 0, bytes: 0 };
  readonly #arena: Region = { at: 0, bytes: 0 };

  constructor(backend: Backend, kernels: Kernels, build: string) {
    this.#backend = backend;
    this.kernels = kernels;
    this.build = build;
  }

  /** Where a tensor's values lie. They stay there until it is disposed of, but views of the heap do not. */
  pointer(tensor: tf.TensorInfo): number {
    return this.#data(tensor).memoryOffset;
  }

  /** Whether a tensor's values are shared with another one (a clone or a reshape) and must not be written. */
  shared(tensor: tf.TensorInfo): boolean {
    return this.#data(tensor).refCount > 1;
  }

  #data(tensor: tf.TensorInfo): TensorData {
    const data = this.#backend.dataIdMap.get(tensor.dataId);
    if (!data) throw new Error('tensor is not on the embedded engine or was disposed of');
    return data;
  }

  /** A new uninitialised float32 tensor. */
  output(shape: readonly number[]): tf.TensorInfo {
    try {
      const tensor = this.#backend.makeOutput(shape, 'float32');
      if (this.pointer(tensor) !== 0) return tensor;
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
    }
    // tfjs-backend-wasm itself would write to address 0 or trap somewhere.
    throw new OutOfMemory(`${tf.memory().numBytes} bytes in tensors`);
  }

  /** Another handle on the same values. */
  share(tensor: tf.TensorInfo): tf.TensorInfo {
    this.#backend.incRef(tensor.dataId);
    return { dataId: tensor.dataId, shape: tensor.shape, dtype: tensor.dtype };
  }

  /** The values of a tensor, valid until anything is allocated. */
  floats(tensor: tf.TensorInfo): Float32Array {
    return this.floatsAt(this.pointer(tensor), tf.util.sizeFromShape(tensor.shape));
  }

  floatsAt(pointer: number, count: number): Float32Array {
    return new Float32Array(this.#backend.wasm.asm.memory.buffer, pointer, count);
  }

  bytesAt(pointer: number, count: number): Uint8Array {
    return new Uint8Array(this.#backend.wasm.asm.memory.buffer, pointer, count);
  }

  doublesAt(pointer: number, count: number): Float64Array {
    return new Float64Array(this.#backend.wasm.asm.memory.buffer, pointer, count);
  }

  intsAt(pointer: number, count: number): Int32Array {
    return new Int32Array(this.#backend.wasm.asm.memory.buffer, pointer, count);
  }

  /** Working room of one operation: 64-byte aligned areas of these sizes, valid until the next call. */
  scratch(...bytes: number[]): number[] {
    let total = 0;
    for (const size of bytes) total += aligned(size);
    let next = this.#region(this.#scratch, total);
    for (let i = 0; i < bytes.length; i++) {
      const start = next;
      next += aligned(bytes[i]!);
      bytes[i] = start;
    }
    return bytes;
  }

  /** Room for the buffers of a whole computation, 64-byte aligned, valid until the next call. */
  arena(bytes: number): number {
    return this.#region(this.#arena, bytes);
  }

  /** A region is reused and grows to the largest that was asked for. */
  #region(region: Region, bytes: number): number {
    if (bytes > region.bytes) {
      const { _malloc, _free } = this.#backend.wasm;
      if (region.at) _free(region.at);
      [region.at, region.bytes] = [0, 0];
      region.at = _malloc(bytes + 64) >>> 0;
      if (region.at === 0) throw new OutOfMemory(`no room for ${bytes} bytes`);
      region.bytes = bytes;
    }
    return aligned(region.at);
  }

  zero(pointer: number, bytes: number): void {
    this.bytesAt(pointer, bytes).fill(0);
  }
}

/** Joins our kernels to the backend's memory; throws with the reason when this backend is not the one we know. */
export function connect(candidate: unknown): Heap {
  const backend = candidate as Partial<Backend>;
  const memory = backend.wasm?.asm?.memory;
  if (!(memory instanceof WebAssembly.Memory)) throw new Error('tfjs-backend-wasm exposes no memory');
  const functions = [backend.wasm?._malloc, backend.wasm?._free, backend.dataIdMap?.get, backend.makeOutput];
  if (![...functions, backend.incRef].every((f) => typeof f === 'function'))
    throw new Error('tfjs-backend-wasm has other private fields than version 4.22');
  for (const build of ['relaxed', 'simd']) {
    const kernels = instantiate(build, memory);
    if (kernels) return new Heap(backend as Backend, kernels, build);
  }
  throw new Error('this machine has no WebAssembly SIMD');
}

function instantiate(build: string, memory: WebAssembly.Memory): Kernels | undefined {
  const code = readFileSync(new URL(`../generated/kernels-${build}.wasm`, import.meta.url));
  // Node 20 has relaxed SIMD behind a flag; later versions have it, and complain about the flag.
  if (!WebAssembly.validate(code)) v8.setFlagsFromString('--experimental-wasm-relaxed-simd');
  if (!WebAssembly.validate(code)) return undefined;
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(code), { env: { memory } });
  const kernels = exports as unknown as Kernels;
  const missing = EXPORTS.filter((name) => typeof kernels[name] !== 'function');
  if (missing.length > 0) throw new Error(`the kernel build lacks ${missing.join(', ')}: run npm run build`);
  // Where the processor has no fused multiply-add the relaxed build would give other bits under the same name.
  return build === 'relaxed' && !kernels.fused(1 + 2 ** -12) ? undefined : kernels;
}
