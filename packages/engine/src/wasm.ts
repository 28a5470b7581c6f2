/** The embedded engine: tfjs-backend-wasm with our kernels, or without them when the start-up probe says no. */
import * as tf from '@tensorflow/tfjs-core';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { registerComposed } from './composed-kernels.js';
import { registerFused } from './fused.js';
import { connect, KERNEL_VERSION } from './heap.js';
import type { EngineInfo } from './init.js';
import { OutOfMemory } from './out-of-memory.js';
import { install, uninstall } from './install.js';
import { probe } from './probe.js';

/** The embedded engine; with one warning when stock kernels have to do the work. */
export async function startWasm(why: string, check?: () => string | undefined): Promise<EngineInfo> {
  const { info, problem } = await startEmbedded(why, check);
  if (problem !== undefined) warnOfStock(problem);
  return info;
}

export function warnOfStock(problem: string): void {
  process.emitWarning(`the engine trains on slow stock kernels: ${problem}`, {
    code: 'NTAA_ENGINE_FALLBACK',
  });
}

/**
 * Starts tfjs-backend-wasm (single-threaded, its .wasm from the package) and installs our kernels if `check` finds
 * nothing wrong with them. Otherwise stock kernels do the work, and `problem` tells why.
 */
export async function startEmbedded(
  why: string,
  check: () => string | undefined = probe,
): Promise<{ info: EngineInfo; problem?: string }> {
  const { setWasmPaths } = await import('@tensorflow/tfjs-backend-wasm');
  setWasmPaths(`${dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm'))}/`);
  if (!(await tf.setBackend('wasm')))
    throw new Error('tfjs-backend-wasm does not start: run "npm ci" again, its .wasm files may be missing');
  await tf.ready();
  refuseNull();
  registerComposed();
  const { build, problem } = installKernels(check);
  if (problem === undefined)
    return {
      info: { kind: 'wasm', name: `wasm-${build} ${tf.version_core}+${KERNEL_VERSION}`, reason: why },
    };
  const reason = `${why}; own kernels off (${problem})`;
  return { info: { kind: 'wasm', name: `wasm-stock ${tf.version_core}`, reason }, problem };
}

/** Where the heap cannot grow, tfjs-backend-wasm itself would write to address 0. */
function refuseNull(): void {
  const { wasm } = tf.backend() as unknown as { wasm?: Partial<Allocator> };
  if (!wasm?._malloc || !wasm._free) return;
  // The first call puts the real function in its own place.
  wasm._free(wasm._malloc(8));
  const malloc = wasm._malloc;
  wasm._malloc = (bytes) => {
    // It would take a larger number modulo 2 ** 32.
    const pointer = bytes < 2 ** 32 ? malloc(bytes) : 0;
    if (pointer === 0 && bytes > 0) throw new OutOfMemory(`no room for ${bytes} bytes`);
    return pointer;
  };
}

interface Allocator {
  _malloc(bytes: number): number;
  _free(pointer: number): void;
}

function installKernels(check: () => string | undefined): { build: string; problem?: string } {
  let build = 'stock';
  try {
    const heap = connect(tf.backend());
    build = heap.build;
    registerFused();
    install(heap);
    const problem = check();
    if (problem === undefined) return { build };
    uninstall();
    return { build, problem };
  } catch (error) {
    uninstall();
    return { build, problem: error instanceof Error ? error.message : String(error) };
  }
}
