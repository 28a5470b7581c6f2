// A network without the head convolution that every search space of ours has, on TensorFlow.js ops and their automatic
// differentiation: the only way to have exactly the reference network. Tensors have the names of packages/supernet.
import { affine, batchNorm, softmaxCrossEntropy, tf } from '@ntaa/engine';

export class Headless {
  #params = new Map();
  #units;

  /** Of a network that has a head: all but the head is taken over, and the classifier, which must be as wide. */
  constructor(units, tensors) {
    this.#units = units;
    for (const [name, { shape, data }] of tensors) {
      if (name.startsWith('head.')) continue;
      const variable = tf.tidy(() => tf.variable(tf.tensor(data, shape)));
      this.#params.set(name, { name, variable, weightDecay: name.endsWith('.weight') ? 1 : 0, lrScale: 1 });
    }
  }

  params() {
    return [...this.#params.values()];
  }

  /** Logits; batch norm by the batch's own statistics, or with its affine half only, which costs what inference does. */
  forward(images, training) {
    return tf.tidy(() => {
      const last = this.#units.reduce((x, { layers, residual }) => {
        const y = layers.reduce((z, layer) => this.#layer(z, layer, training), x);
        return residual ? tf.add(x, y) : y;
      }, images);
      const product = tf.matMul(tf.mean(last, [1, 2]), this.#value('classifier.weight'));
      return tf.add(product, this.#value('classifier.bias'));
    });
  }

  #layer(x, { name, kernel, stride, depthwise, activation }, training) {
    const conv = depthwise ? tf.depthwiseConv2d : tf.conv2d;
    const z = conv(x, this.#value(`${name}.weight`), stride, kernel >> 1, 'NHWC', 1, 'floor');
    const [gamma, beta] = ['gamma', 'beta'].map((part) => this.#value(`${name}.bn.${part}`));
    if (!training) return affine(z, gamma, beta, activation);
    return batchNorm(z, gamma, beta, { epsilon: 1e-5, activation }).y;
  }

  #value(name) {
    return this.#params.get(name).variable;
  }

  /** As `lossGradients` of packages/supernet. */
  lossGradients(images, targets, into) {
    return tf.tidy(() => {
      let logits;
      const { value, grads } = tf.variableGrads(() => {
        logits = tf.keep(this.forward(images, true));
        return softmaxCrossEntropy(logits, targets);
      });
      for (const { name, variable } of this.params()) into.add(name, grads[variable.name]);
      return { loss: value.dataSync()[0], logits };
    });
  }

  tensors() {
    const plain = ({ name, variable }) => [
      name,
      { shape: variable.shape, data: Float32Array.from(variable.dataSync()) },
    ];
    return new Map(this.params().map(plain));
  }
}
