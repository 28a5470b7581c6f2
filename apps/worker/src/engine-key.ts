import { readdirSync, readFileSync } from 'node:fs';
import { cpus, hostname } from 'node:os';
import { join } from 'node:path';
import type { RunningEngine } from '@ntaa/config';
import { VERSION } from './version.js';

/**
 * Equal for workers that compute equal bytes: this program, the engine with its kernels, and what those adapt themselves
 * to. Our own kernels are the same instructions on every processor of an architecture; libtensorflow chooses by the
 * processor and its number of threads, CUDA by the model of the GPU.
 */
export function engineKey({ kind, name }: Pick<RunningEngine, 'kind' | 'name'>): string {
  const hardware = {
    wasm: () => '',
    tensorflow: () => `${cpus()[0]?.model} x${process.env['TF_NUM_INTRAOP_THREADS'] ?? cpus().length}`,
    'tensorflow-gpu': gpuModels,
  }[kind]();
  return [VERSION, name, process.arch, hardware].filter(Boolean).join(' ');
}

/** Of this machine; where the driver does not tell, its name, which is nobody else's. */
function gpuModels(): string {
  const folder = '/proc/driver/nvidia/gpus';
  try {
    const models = readdirSync(folder).map(
      (gpu) => /Model:\s*(.+)/.exec(readFileSync(join(folder, gpu, 'information'), 'utf8'))![1]!,
    );
    return [...new Set(models)].sort().join(', ');
  } catch {
    return hostname();
  }
}
