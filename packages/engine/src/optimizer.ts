/** Stochastic gradient descent and weight averaging, in place on the variables. */
import * as tf from '@tensorflow/tfjs-core';
import type { Heap } from './heap.js';
import { native } from './native.js';

/** A trainable variable; `name` is its key in gradients and in saved state, unique within a network. */
export interface Param {
  name: string;
  variable: tf.Variable;
  /** L2 coefficient added to the gradient; 0 for batch norm and biases. */
  weightDecay: number;
  /** Multiplies the learning rate for this parameter. */
  lrScale: number;
}

export interface SgdOptions {
  momentum: number;
  nesterov: boolean;
  /** Upper bound of the global L2 norm of all gradients together (before weight decay); none when absent. */
  clipNorm?: number;
}

export class Sgd {
  readonly #opts: SgdOptions;
  readonly #velocity = new Map<string, tf.Tensor>();

  constructor(opts: SgdOptions) {
    this.#opts = opts;
  }

  /**
   * One update of every parameter that has a gradient (`grads` by Param.name; others stay as they are, momentum
   * included): g = clipped gradient + weightDecay * w; v = momentum * v + g;
   * w -= learningRate * lrScale * (nesterov ? g + momentum * v : v). Gradients are not disposed of.
   */
  step(params: readonly Param[], grads: Record<string, tf.Tensor>, learningRate: number): void {
    const scale = this.#clipScale(params, grads);
    for (const param of params) {
      const grad = grads[param.name];
      if (grad) this.#update(param, grad, scale, learningRate * param.lrScale);
    }
  }

  #clipScale(params: readonly Param[], grads: Record<string, tf.Tensor>): number {
    const limit = this.#opts.clipNorm;
    if (limit === undefined) return 1;
    let sum = 0;
    for (const { name } of params) {
      const grad = grads[name];
      if (grad) sum += sumSquares(grad);
    }
    return Math.min(1, limit / Math.max(Math.sqrt(sum), 1e-12));
  }

  #update({ name, variable, weightDecay }: Param, grad: tf.Tensor, scale: number, rate: number): void {
    const { momentum, nesterov } = this.#opts;
    const velocity = this.#velocity.get(name) ?? tf.keep(tf.zeros(variable.shape));
    this.#velocity.set(name, velocity);
    if (velocity.size !== variable.size || grad.size !== variable.size)
      throw new RangeError(
        `Sgd: gradient or momentum of ${name} does not have the variable's ${variable.size} values`,
      );
    const heap = native();
    if (heap) {
      const [w, g, v] = [writable(heap, variable), heap.pointer(grad), heap.pointer(velocity)];
      heap.kernels.sgd(w, g, v, variable.size, scale, weightDecay, momentum, rate, nesterov);
      return;
    }
    const next = tf.tidy(() => {
      const g = tf.add(tf.mul(grad, scale), tf.mul(variable, weightDecay));
      const v = tf.add(tf.mul(velocity.reshape(variable.shape), momentum), g);
      variable.assign(tf.sub(variable, tf.mul(nesterov ? tf.add(g, tf.mul(v, momentum)) : v, rate)));
      return tf.keep(v);
    });
    velocity.dispose();
    this.#velocity.set(name, next);
  }

  /** A copy of the momentum buffers, by Param.name. */
  state(): Record<string, Float32Array> {
    return Object.fromEntries(
      [...this.#velocity].map(([name, v]) => [name, Float32Array.from(v.dataSync())] as const),
    );
  }

  /** Replaces the momentum buffers by saved ones. */
  load(state: Record<string, Float32Array>): void {
    this.dispose();
    for (const [name, values] of Object.entries(state))
      this.#velocity.set(name, tf.keep(tf.tensor1d(Float32Array.from(values))));
  }

  dispose(): void {
    for (const tensor of this.#velocity.values()) tensor.dispose();
    this.#velocity.clear();
  }
}

function sumSquares(tensor: tf.Tensor): number {
  const heap = native();
  if (heap) return heap.kernels.sumSquares(heap.pointer(tensor), tensor.size);
  return tf.tidy(() => tf.sum(tf.square(tensor)).dataSync()[0] as number);
}

/** The address of a variable's values, which are first separated from any tensor that shares them. */
function writable(heap: Heap, variable: tf.Variable): number {
  if (heap.shared(variable)) {
    const own = tf.tensor(variable.dataSync(), variable.shape);
    variable.assign(own);
    own.dispose();
  }
  return heap.pointer(variable);
}

/** Exponential moving average in place: ema = decay * ema + (1 - decay) * value. Lists run in parallel. */
export function emaUpdate(ema: readonly tf.Variable[], params: readonly tf.Variable[], decay: number): void {
  if (ema.length !== params.length)
    throw new RangeError(`emaUpdate: ${ema.length} averages for ${params.length} variables`);
  const heap = native();
  ema.forEach((average, i) => {
    const value = params[i] as tf.Variable;
    if (average.size !== value.size) throw new RangeError(`emaUpdate: shapes of pair ${i} differ`);
    if (heap) heap.kernels.ema(writable(heap, average), heap.pointer(value), value.size, decay, 1 - decay);
    else tf.tidy(() => average.assign(tf.add(tf.mul(average, decay), tf.mul(value, 1 - decay))));
  });
}
