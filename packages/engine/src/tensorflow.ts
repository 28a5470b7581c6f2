/** The native engines: libtensorflow through tfjs-node or tfjs-node-gpu, where somebody installed its binary. */
import * as tf from '@tensorflow/tfjs-core';
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import util from 'node:util';
import type { EngineInfo } from './init.js';

const PACKAGES = {
  'tensorflow-gpu': '@tensorflow/tfjs-node-gpu',
  tensorflow: '@tensorflow/tfjs-node',
} as const;

const remedy = (name: string) =>
  `install it with "npm install ${name}@4.22.0" and fetch its binary with "npm rebuild ${name} --ignore-scripts=false"`;

/** Starts a native engine or throws with the remedy. The package is only loaded when its binary is there: without it,
 *  it would print a page and throw. */
export async function startNodeBinding(
  kind: 'tensorflow-gpu' | 'tensorflow',
  why: string,
): Promise<EngineInfo> {
  const name = PACKAGES[kind];
  if (!hasBinary(name)) throw new Error(`${name} has no binary here: ${remedy(name)}`);
  restoreUtil();
  try {
    await import(name);
  } catch (error) {
    throw new Error(`${name} does not load: ${String(error)}; ${remedy(name)}`, { cause: error });
  }
  const backend = tf.findBackend('tensorflow') as { isUsingGpuDevice?: boolean } | null;
  if (!backend) throw new Error(`${name} registered no backend: ${remedy(name)}`);
  if (kind === 'tensorflow-gpu' && backend.isUsingGpuDevice !== true) {
    tf.removeBackend('tensorflow');
    throw new Error(
      `${name} sees no GPU: check nvidia-smi and that CUDA and cuDNN are the versions it wants`,
    );
  }
  await tf.setBackend('tensorflow');
  await tf.ready();
  return { kind, name: `${kind} ${tf.version_core}`, reason: why };
}

/** Looks for lib/napi-v*\/tfjs_binding.node in the package, if it is installed at all. */
function hasBinary(name: string): boolean {
  try {
    const lib = join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), 'lib');
    return readdirSync(lib).some((folder) => existsSync(join(lib, folder, 'tfjs_binding.node')));
  } catch {
    return false;
  }
}

/** tfjs-node 4.22 calls functions that Node 23 removed (tensorflow/tfjs#8609). */
function restoreUtil(): void {
  const old = util as unknown as Record<string, (value: unknown) => boolean>;
  old['isNullOrUndefined'] ??= (value) => value === null || value === undefined;
  old['isArray'] ??= (value) => Array.isArray(value);
}
