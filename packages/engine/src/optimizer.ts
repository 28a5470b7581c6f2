/** Stochastic gradient descent and weight averaging, in place on the variables. */
import * as tf from '@tensorflow/tfjs-core';
import type { Gradients } from './gradients.js';
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
   * One update of every parameter that has a gradient (others stay as they are, momentum included):
   * g = clipped gradient + weightDecay * w; v = momentum * v + g;
   * w -= learningRate * lrScale * (nesterov ? g + momentum * v : v).
   */
  step(params: readonly Param[], gradients: Gradients, learningRate: number): void {
    const given = params.filter(({ name }) => gradients.has(name));
    const heap = native();
    if (heap) this.#stepInPlace(heap, given, gradients, learningRate);
    else this.#stepComposed(given, gradients, learningRate);
  }

  #stepInPlace(heap: Heap, params: readonly Param[], gradients: Gradients, learningRate: number): void {
    const { momentum, nesterov } = this.#opts;
    const { kernels } = heap;
    const scale = this.#clipScale(params, ({ name, variable }) =>
      kernels.sumSquares(gradients.pointer(heap, name), variable.size),
    );
    for (const { name, variable, weightDecay, lrScale } of params) {
      const [w, g] = [writable(heap, variable), gradients.pointer(heap, name)];
      const v = heap.pointer(this.#velocityOf(name, variable));
      kernels.sgd(w, g, v, variable.size, scale, weightDecay, momentum, learningRate * lrScale, nesterov);
    }
  }

  /** In ops; nothing is read back, so that a GPU is not waited for. */
  #stepComposed(params: readonly Param[], gradients: Gradients, learningRate: number): void {
    const { momentum, nesterov } = this.#opts;
    const scale = this.#clipTensor(params.map(({ name }) => gradients.tensor(name)!));
    for (const { name, variable, weightDecay, lrScale } of params) {
      const velocity = this.#velocityOf(name, variable);
      const next = tf.tidy(() => {
        const raw = gradients.tensor(name)!;
        const clipped = scale ? tf.mul(raw, scale) : raw;
        const g = weightDecay === 0 ? clipped : tf.add(clipped, tf.mul(variable, weightDecay));
        const v = tf.add(tf.mul(velocity.reshape(variable.shape), momentum), g);
        const direction = nesterov ? tf.add(g, tf.mul(v, momentum)) : v;
        variable.assign(tf.sub(variable, tf.mul(direction, learningRate * lrScale)));
        return tf.keep(v);
      });
      velocity.dispose();
      this.#velocity.set(name, next);
    }
    scale?.dispose();
  }

  #clipTensor(gradients: readonly tf.Tensor[]): tf.Tensor | undefined {
    const limit = this.#opts.clipNorm;
    if (limit === undefined || gradients.length === 0) return undefined;
    return tf.tidy(() => {
      const norm = tf.sqrt(tf.sum(tf.stack(gradients.map((gradient) => tf.sum(tf.square(gradient))))));
      return tf.minimum(1, tf.div(limit, tf.maximum(norm, 1e-12)));
    });
  }

  #clipScale(params: readonly Param[], sumSquares: (param: Param) => number): number {
    const limit = this.#opts.clipNorm;
    if (limit === undefined) return 1;
    const norm = Math.sqrt(params.reduce((sum, param) => sum + sumSquares(param), 0));
    return Math.min(1, limit / Math.max(norm, 1e-12));
  }

  #velocityOf(name: string, variable: tf.Variable): tf.Tensor {
    const velocity = this.#velocity.get(name) ?? tf.keep(tf.zeros(variable.shape));
    if (velocity.size !== variable.size)
      throw new RangeError(
        `Sgd: the momentum of ${name} does not have the variable's ${variable.size} values`,
      );
    this.#velocity.set(name, velocity);
    return velocity;
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
