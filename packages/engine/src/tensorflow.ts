/**
 * The native engines: libtensorflow through the addon of @tensorflow/tfjs-node, built by `npm run setup:tensorflow` or
 * downloaded by that package's own install script.
 */
import * as tf from '@tensorflow/tfjs-core';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import util from 'node:util';
import type { EngineInfo } from './init.js';
import { probe } from './probe.js';
import { registerNativeKernels } from './tensorflow-kernels.js';

type Kind = 'tensorflow-gpu' | 'tensorflow';

const GPU_PACKAGE = '@tensorflow/tfjs-node-gpu';
const CPU_PACKAGE = '@tensorflow/tfjs-node';
/** What `npm run setup:tensorflow` makes; the same place from src/ and from lib/. */
const BUILT = fileURLToPath(new URL('../../../.cache/tensorflow/tfjs_binding.node', import.meta.url));

const REMEDY = {
  'tensorflow-gpu': 'run "npm run setup:tensorflow -- --gpu", or see docs/engine.md',
  tensorflow: 'run "npm run setup:tensorflow", or see docs/engine.md',
};

/** What the addon exports, as far as we look into it. */
interface Addon {
  TF_Version: string;
  isUsingGpuDevice(): boolean;
}

interface NodeBackendModule {
  NodeJSKernelBackend: new (addon: Addon, packageName: string) => tf.KernelBackend;
}

/** What a machine shows that has an NVIDIA GPU; the second one on Windows' Linux. */
const GPU_DEVICES = ['/dev/nvidiactl', '/dev/dxg'];

/** Two libtensorflows in one process would share half of their symbols: the first that loads is the only one. */
let loaded: Addon | undefined;

/**
 * Starts a native engine; `why` becomes part of EngineInfo.reason. Throws Error with the remedy when no addon is there,
 * when it does not load or computes wrongly, or when tensorflow-gpu finds no GPU.
 */
export async function startTensorflow(kind: Kind, why: string): Promise<EngineInfo> {
  const require = createRequire(import.meta.url);
  const addon = (loaded ??= load(kind, require));
  if (kind === 'tensorflow-gpu' && !addon.isUsingGpuDevice())
    throw new Error(
      `TensorFlow ${addon.TF_Version} sees no GPU: check nvidia-smi, and that its CUDA and cuDNN are there ` +
        `(TF_CPP_MIN_LOG_LEVEL=0 tells what it misses); if this is a build without CUDA, ${REMEDY[kind]}`,
    );
  if (kind === 'tensorflow' && addon.isUsingGpuDevice())
    throw new Error('TensorFlow already runs on a GPU in this process: start another for the CPU');
  const name = installed(require);
  // The packages' entry would look for an addon of its own, and print a page when there is none.
  require(`${name}/dist/register_all_kernels.js`);
  const { NodeJSKernelBackend } = require(`${name}/dist/nodejs_kernel_backend.js`) as NodeBackendModule;
  registerNativeKernels();
  tf.registerBackend('tensorflow', () => new NodeJSKernelBackend(addon, name));
  await tf.setBackend('tensorflow');
  await tf.ready();
  const problem = probe();
  if (problem !== undefined) {
    tf.removeBackend('tensorflow');
    throw new Error(`TensorFlow ${addon.TF_Version} computes wrongly here: ${problem}; ${REMEDY[kind]}`);
  }
  const threads = `${process.env['TF_NUM_INTRAOP_THREADS']} threads`;
  const where = addon.isUsingGpuDevice() ? 'on a GPU' : threads;
  return {
    kind,
    name: `${kind} ${tf.version_core}+tf${addon.TF_Version}`,
    reason: `${why}; ${where}`,
  };
}

function load(kind: Kind, require: NodeJS.Require): Addon {
  const candidates =
    kind === 'tensorflow-gpu' && !builtWithCuda()
      ? [...downloaded(GPU_PACKAGE, require), BUILT]
      : [BUILT, ...[CPU_PACKAGE, GPU_PACKAGE].flatMap((name) => downloaded(name, require))];
  const path = candidates.find((file) => existsSync(file));
  if (path === undefined) throw new Error(`no libtensorflow here: ${REMEDY[kind]}`);
  // Known without loading a gigabyte of libraries.
  if (kind === 'tensorflow-gpu' && process.platform === 'linux' && !GPU_DEVICES.some(existsSync))
    throw new Error(`no NVIDIA GPU here: ${GPU_DEVICES.join(' or ')} would show it; see docs/engine.md`);
  setEnvironment(kind);
  restoreUtil();
  try {
    return require(path) as Addon;
  } catch (error) {
    throw new Error(`libtensorflow does not load: ${String(error)}; ${REMEDY[kind]}`, { cause: error });
  }
}

function builtWithCuda(): boolean {
  const record = join(dirname(BUILT), 'setup.json');
  return existsSync(record) && (JSON.parse(readFileSync(record, 'utf8')) as { gpu?: boolean }).gpu === true;
}

/** Options that libtensorflow reads from the environment when it loads; what the user set stays. */
function setEnvironment(kind: Kind): void {
  const { env } = process;
  env['TF_NUM_INTRAOP_THREADS'] ??= env['OMP_NUM_THREADS'] ?? String(availableParallelism());
  // Without advertisements of its build options.
  env['TF_CPP_MIN_LOG_LEVEL'] ??= '2';
  // Take GPU memory as needed rather than all at once, and compute in full float32 as the other engines do.
  env['TF_FORCE_GPU_ALLOW_GROWTH'] ??= 'true';
  env['NVIDIA_TF32_OVERRIDE'] ??= '0';
  if (kind === 'tensorflow') env['CUDA_VISIBLE_DEVICES'] = '-1';
}

/** The package whose JavaScript drives the addon: both have the same. */
function installed(require: NodeJS.Require): string {
  const name = [CPU_PACKAGE, GPU_PACKAGE].find((name) => folderOf(name, require) !== undefined);
  if (name === undefined)
    throw new Error(`${GPU_PACKAGE} is not installed: run "npm ci" without --omit=optional`);
  return name;
}

function folderOf(name: string, require: NodeJS.Require): string | undefined {
  try {
    return dirname(require.resolve(`${name}/package.json`));
  } catch {
    return undefined;
  }
}

/** Where a package's install script puts its addon, if the package is there at all. */
function downloaded(name: string, require: NodeJS.Require): string[] {
  const folder = folderOf(name, require);
  if (folder === undefined || !existsSync(join(folder, 'lib'))) return [];
  return readdirSync(join(folder, 'lib')).map((api) => join(folder, 'lib', api, 'tfjs_binding.node'));
}

/** tfjs-node 4.22 calls functions that Node 23 removed (tensorflow/tfjs#8609). */
function restoreUtil(): void {
  const old = util as unknown as Record<string, (value: unknown) => boolean>;
  old['isNullOrUndefined'] ??= (value) => value === null || value === undefined;
  old['isArray'] ??= (value) => Array.isArray(value);
}
