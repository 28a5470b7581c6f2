/** The gradients of a training step, summed over its parts. */
import * as tf from '@tensorflow/tfjs-core';
import type { Heap } from './heap.js';
import { native } from './native.js';
import type { Param } from './optimizer.js';

interface Area {
  /** In values, a multiple of 4: kernels like 16-byte alignment. */
  offset: number;
  size: number;
  shape: number[];
}

/**
 * Sums of gradients by Param.name. With our kernels they lie in one tensor, parameter after parameter, so that they can
 * be written in place and exchanged between threads at once; on other engines they are tensors of the backend's own.
 */
export class Gradients {
  /** Values of all parameters together, padding included. */
  readonly size: number;
  readonly #areas = new Map<string, Area>();
  readonly #flat: tf.Tensor1D | undefined;
  readonly #sums = new Map<string, tf.Tensor>();
  readonly #touched = new Set<string>();

  constructor(params: readonly Param[]) {
    let offset = 0;
    for (const { name, variable } of params) {
      this.#areas.set(name, { offset, size: variable.size, shape: variable.shape });
      offset += Math.ceil(variable.size / 4) * 4;
    }
    this.size = offset;
    if (native()) this.#flat = tf.keep(tf.zeros<tf.Rank.R1>([this.size]));
  }

  /** Adds to a parameter's sum. `grad` is the caller's to dispose of. */
  add(name: string, grad: tf.Tensor): void {
    const { size, shape } = this.#area(name);
    if (grad.size !== size)
      throw new RangeError(`the gradient of ${name} has ${grad.size} values, not ${size}`);
    const heap = native();
    if (heap) {
      heap.kernels.ema(this.pointer(heap, name), heap.pointer(grad), size, 1, 1);
      return;
    }
    const before = this.#sums.get(name);
    const sum = tf.tidy(() => {
      const shaped = tf.reshape(grad, shape);
      return tf.keep(before ? tf.add(before, shaped) : tf.clone(shaped));
    });
    this.#sums.set(name, sum);
    before?.dispose();
    this.#touched.add(name);
  }

  /** Whether anything was added to a parameter's sum. */
  has(name: string): boolean {
    return this.#touched.has(name);
  }

  /** Where a parameter's sum lies in the heap, for a kernel that adds to it. */
  pointer(heap: Heap, name: string): number {
    this.#touched.add(name);
    return heap.pointer(this.#flat!) + 4 * this.#area(name).offset;
  }

  /** A parameter's sum; stays ours. Not with our own kernels, which have `pointer`. */
  tensor(name: string): tf.Tensor | undefined {
    return this.#sums.get(name);
  }

  /** Copies all sums into `out` [size]; zeros where nothing was added. */
  copyTo(out: Float32Array): void {
    const heap = native();
    if (heap) return out.set(heap.floats(this.#flat!));
    out.fill(0);
    for (const [name, sum] of this.#sums) out.set(sum.dataSync(), this.#area(name).offset);
  }

  /** Replaces the sums of the parameters that have one by those in `values` [size]. */
  assign(values: Float32Array): void {
    const heap = native();
    if (heap) return heap.floats(this.#flat!).set(values);
    for (const name of this.#touched) {
      const { offset, size, shape } = this.#area(name);
      this.#sums.get(name)?.dispose();
      this.#sums.set(name, tf.keep(tf.tensor(values.slice(offset, offset + size), shape)));
    }
  }

  /** Forgets everything added. */
  clear(): void {
    const heap = native();
    if (heap) heap.floats(this.#flat!).fill(0);
    for (const sum of this.#sums.values()) sum.dispose();
    this.#sums.clear();
    this.#touched.clear();
  }

  dispose(): void {
    this.clear();
    this.#flat?.dispose();
  }

  #area(name: string): Area {
    const area = this.#areas.get(name);
    if (!area) throw new RangeError(`no parameter is called ${name}`);
    return area;
  }
}
