/** Puts our kernels in the place of stock ones, each with the stock kernel behind it for the cases it does not take. */
import * as tf from '@tensorflow/tfjs-core';
import { convOverrides } from './conv-kernels.js';
import type { Heap } from './heap.js';
import { matrixOverrides } from './matrix-kernels.js';
import { setNative } from './native.js';

/** A kernel of ours under a stock name. It returns undefined for a case it does not take. */
export interface Override {
  name: string;
  run(
    heap: Heap,
    inputs: tf.NamedTensorInfoMap,
    attrs: Record<string, unknown>,
  ): tf.TensorInfo | tf.TensorInfo[] | undefined;
}

let removed: (tf.KernelConfig | { kernelName: string; backendName: string })[] = [];

/** Installs every override; the stock kernels come back with uninstall(). */
export function install(heap: Heap): void {
  for (const { name, run } of [...convOverrides, ...matrixOverrides]) {
    const stock = tf.getKernel(name, 'wasm') as tf.KernelConfig | undefined;
    if (stock) tf.unregisterKernel(name, 'wasm');
    removed.push(stock ?? { kernelName: name, backendName: 'wasm' });
    tf.registerKernel({
      ...stock,
      kernelName: name,
      backendName: 'wasm',
      kernelFunc: (args) => {
        const result = run(heap, args.inputs, (args.attrs ?? {}) as Record<string, unknown>);
        if (result) return result;
        if (!stock) throw new Error(`${name}: the engine does not support these arguments`);
        return stock.kernelFunc(args);
      },
    });
  }
  setNative(heap);
}

/** Undoes install(). */
export function uninstall(): void {
  setNative(undefined);
  for (const stock of removed) {
    tf.unregisterKernel(stock.kernelName, 'wasm');
    if ('kernelFunc' in stock) tf.registerKernel(stock);
  }
  removed = [];
}
