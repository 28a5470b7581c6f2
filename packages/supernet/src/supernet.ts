/**
 * A network whose weights every architecture of a search space shares (after Once-for-All, Cai et al., ICLR 2020): a
 * genotype uses the first channels of each convolution and, for a smaller depthwise kernel, the centre of the larger
 * one times a learnt matrix. The genotype is an argument of `forward`, never state.
 */
import type { Genotype, SearchSpace } from '@ntaa/contracts';
import { affine, batchNorm, native, tf, type Param } from '@ntaa/engine';
import { units, type ConvLayer, type Unit } from '@ntaa/nas';
import type { Rng } from '@ntaa/random';
import { BN_EPSILON, BnCollector, type BnStatistics } from './batch-norm.js';
import { inferOnHeap } from './inference.js';
import {
  classifierTensors,
  initialValue,
  layout,
  neckTensors,
  transformName,
  type TensorSpec,
} from './layout.js';
import { NECK } from './neck.js';
import { collectOnHeap } from './program.js';
import { plain, requireTensor, sameShape, type NamedTensors, type PlainTensor } from './tensors.js';

/** Batch statistics; the same, collected; or fixed statistics. */
export type BnMode = 'batch' | BnCollector | BnStatistics;

export class Supernet {
  readonly space: SearchSpace;
  /** Width of the logits. */
  readonly outputs: number;
  readonly #params = new Map<string, Param>();

  private constructor(space: SearchSpace, outputs: number, value: (spec: TensorSpec) => Float32Array) {
    this.space = space;
    this.outputs = outputs;
    const values = layout(space, outputs).map((spec) => [spec, value(spec)] as const);
    for (const [{ name, shape, weightDecay }, data] of values) {
      const variable = tf.tidy(() => tf.variable(tf.tensor(data, shape)));
      this.#params.set(name, { name, variable, weightDecay, lrScale: 1 });
    }
  }

  /** He initialisation by fan-out; kernel transforms start as the plain centre crop; a small normal classifier. */
  static initialise(space: SearchSpace, outputs: number, rng: Rng): Supernet {
    return new Supernet(space, outputs, (spec) => initialValue(spec, rng));
  }

  /**
   * Saved weights (see `tensors`). A classifier of another number of outputs, or none, is replaced by a fresh one, and
   * a neck that is missing is made.
   * Throws Error that names the first missing or misshapen tensor.
   */
  static load(space: SearchSpace, tensors: NamedTensors, outputs: number, rng: Rng): Supernet {
    const fresh = classifierTensors(space, outputs).some(
      ({ name, shape }) => !sameShape(tensors.get(name)?.shape ?? [], shape),
    );
    const necks = neckTensors(space).flatMap(({ name }) => (tensors.has(name) ? [] : [name]));
    return new Supernet(space, outputs, (spec) =>
      (fresh && spec.kind.startsWith('classifier')) || necks.includes(spec.name)
        ? initialValue(spec, rng)
        : requireTensor(tensors, spec.name, spec.shape).data,
    );
  }

  /**
   * Every trainable variable, by names under `stem.`, `stages.i.blocks.j.`, `head.` and `classifier.`. `weightDecay`
   * is a flag to be multiplied by a coefficient: 0 for batch norm, biases and kernel transforms.
   */
  params(): Param[] {
    return [...this.#params.values()];
  }

  /**
   * Images [N,R,R,3] (NHWC, normalised) to the features [N, head width] that the classifier reads (pooled, and through
   * the neck where there is one) and logits [N, outputs], which the caller disposes of. Differentiable with 'batch' statistics only (see also `lossGradients`). Throws RangeError when the
   * genotype is not a member of the space.
   */
  forward(x: tf.Tensor4D, genotype: Genotype, bn: BnMode): { features: tf.Tensor2D; logits: tf.Tensor2D } {
    const heap = native();
    if (!heap || bn === 'batch') {
      const { pooled, ...outputs } = this.forwardTaped(x, genotype, bn);
      pooled.dispose();
      return outputs;
    }
    return bn instanceof BnCollector
      ? collectOnHeap(heap, this, genotype, x, bn)
      : inferOnHeap(heap, this, genotype, x, bn);
  }

  /**
   * `forward` in TensorFlow.js ops, for any engine. Differentiable with batch or with fixed statistics; only the
   * genotype's slices receive gradients. `pooled`: the features before the neck; a tensor of its own.
   */
  forwardTaped(
    x: tf.Tensor4D,
    genotype: Genotype,
    bn: BnMode,
  ): { pooled: tf.Tensor2D; features: tf.Tensor2D; logits: tf.Tensor2D } {
    return tf.tidy(() => {
      const last = units(this.space, genotype).reduce((y, unit) => this.#unit(y, unit, bn), x);
      const pooled = tf.mean<tf.Tensor2D>(last, [1, 2]);
      const features = this.space.head.neck ? this.#throughNeck(pooled, bn) : pooled.clone();
      const product = tf.matMul<tf.Tensor2D>(features, this.variable('classifier.weight') as tf.Tensor2D);
      return { pooled, features, logits: tf.add<tf.Tensor2D>(product, this.variable('classifier.bias')) };
    });
  }

  /** A tidy of its own: outside of training a unit's intermediates are freed as soon as it is done. */
  #unit(x: tf.Tensor4D, unit: Unit, bn: BnMode): tf.Tensor4D {
    return tf.tidy(() => {
      const y = unit.layers.reduce((z, layer) => this.#layer(z, layer, bn), x);
      return unit.residual ? tf.add(x, y) : y;
    });
  }

  #layer(x: tf.Tensor4D, layer: ConvLayer, bn: BnMode): tf.Tensor4D {
    const { name, kernel, stride, depthwise, channelsOut, activation } = layer;
    const weight = this.activeWeight(layer);
    const pad = kernel >> 1;
    const z = depthwise
      ? tf.depthwiseConv2d(x, weight, stride, pad, 'NHWC', 1, 'floor')
      : tf.conv2d(x, weight, stride, pad, 'NHWC', 1, 'floor');
    const gamma = this.active(`${name}.bn.gamma`, [channelsOut]) as tf.Tensor1D;
    const beta = this.active(`${name}.bn.beta`, [channelsOut]) as tf.Tensor1D;
    return this.#normalised(z, `${name}.bn`, [gamma, beta], activation, bn);
  }

  /** Batch norm and activation. `name`: of the statistics. */
  #normalised(
    z: tf.Tensor4D,
    name: string,
    [gamma, beta]: [tf.Tensor1D, tf.Tensor1D],
    activation: ConvLayer['activation'],
    bn: BnMode,
  ): tf.Tensor4D {
    if (bn === 'batch' || bn instanceof BnCollector) {
      const { y, mean, variance } = batchNorm(z, gamma, beta, { epsilon: BN_EPSILON, activation });
      if (bn !== 'batch') bn.add(name, mean.dataSync(), variance.dataSync(), z.shape[0]);
      return y;
    }
    const { mean, variance } = bn.get(name, gamma.size);
    const scale = tf.mul<tf.Tensor1D>(gamma, tf.rsqrt(tf.add(variance, BN_EPSILON)));
    return affine(z, scale, tf.sub(beta, tf.mul(mean, scale)), activation);
  }

  #throughNeck(pooled: tf.Tensor2D, bn: BnMode): tf.Tensor2D {
    const [batch, width] = pooled.shape;
    const x = tf.reshape<tf.Rank.R4>(pooled, [batch, 1, 1, width]);
    const gamma = this.variable(`${NECK}.gamma`) as tf.Tensor as tf.Tensor1D;
    const y = this.#normalised(x, NECK, [gamma, tf.zeros<tf.Rank.R1>([width])], 'linear', bn);
    return tf.reshape<tf.Rank.R2>(y, [batch, width]);
  }

  /** The weights a layer of some genotype uses: HWIO, or HWC1 for a depthwise one. */
  activeWeight(layer: ConvLayer): tf.Tensor4D {
    const { name, kernel, channelsIn, channelsOut } = layer;
    if (!layer.depthwise)
      return this.active(`${name}.weight`, [kernel, kernel, channelsIn, channelsOut]) as tf.Tensor4D;
    let size = this.variable(`${name}.weight`).shape[0]!;
    let weight = this.active(`${name}.weight`, [size, size, channelsOut, 1]) as tf.Tensor4D;
    while (size > kernel) {
      const smaller = size - 2;
      const crop = tf.slice(weight, [1, 1, 0, 0], [smaller, smaller, channelsOut, 1]);
      // A 7to5 matrix is absent only where no choice of the space needs it.
      const matrix = this.variable(transformName(name, size)) as tf.Tensor2D;
      const product = tf.matMul(matrix, tf.reshape(crop, [smaller ** 2, channelsOut]) as tf.Tensor2D);
      weight = tf.reshape(product, [smaller, smaller, channelsOut, 1]);
      size = smaller;
    }
    return weight;
  }

  /** The leading part of a variable; the variable itself when that is all of it. */
  active(name: string, shape: number[]): tf.Tensor {
    const variable = this.variable(name);
    return sameShape(variable.shape, shape)
      ? variable
      : tf.slice(
          variable,
          shape.map(() => 0),
          shape,
        );
  }

  /** Throws Error when there is none of that name. */
  variable(name: string): tf.Variable {
    const param = this.#params.get(name);
    if (!param) throw new Error(`this supernet has no tensor ${name}`);
    return param.variable;
  }

  /** A copy of all weights, by Param.name. */
  tensors(): NamedTensors {
    const copy = ({ name, variable }: Param): [string, PlainTensor] => [name, plain(variable)];
    return new Map([...this.#params.values()].map(copy));
  }

  dispose(): void {
    for (const { variable } of this.#params.values()) variable.dispose();
  }
}
