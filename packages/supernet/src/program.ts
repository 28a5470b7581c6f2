/**
 * One architecture in training as a fixed list of layers that run directly on the engine's heap: no tape, no tensors but the
 * results, one stretch of memory planned ahead. Batch norm is never written out: a layer keeps the convolution's plain
 * output and its consumer normalises it while reading; statistics and gradient sums are taken while rows are in the
 * cache. `Supernet.forwardTaped` says the same in TensorFlow.js ops; for answers alone see inference.ts.
 */
import type { Genotype } from '@ntaa/contracts';
import { layers, place, tf, type Buffer, type Gradients, type Heap } from '@ntaa/engine';
import { units, type ConvLayer } from '@ntaa/nas';
import { BN_EPSILON, type BnCollector, type BnStatistics } from './batch-norm.js';
import { KernelChain } from './kernel-chain.js';
import type { Loss, LossOfOutputs, Objective } from './loss-gradients.js';
import { momentsOf, NECK, neckBack, normaliseNeck, type NeckMoments } from './neck.js';
import { classifierPanels, normOf, requireImages, shapeOf, weightOf } from './on-heap.js';
import type { Supernet } from './supernet.js';

interface Node {
  layer: ConvLayer;
  /** Of a whole batch. */
  shape: layers.ConvShape;
  input: Node | undefined;
  /** The node whose output is added to this one's. */
  rest: Node | undefined;
  /** The node that gets this one's input as its `rest`: its gradient comes back here, too. */
  skip: Node | undefined;
  /** Output of the convolution [M, C]. */
  z: Buffer;
  /** Output of the unit, only where it cannot be had from z alone or is read twice. */
  y: Buffer | undefined;
  norm: Buffer;
  /** Gradient of the output. */
  grad: Buffer | undefined;
  /** The weights, laid out for the products of forward and backward; a depthwise layer's kernel. */
  panels: Buffer;
  backPanels: Buffer | undefined;
  chain: KernelChain | undefined;
}

class Program {
  readonly #heap: Heap;
  readonly #net: Supernet;
  readonly #nodes: Node[] = [];
  readonly #buffers: Buffer[] = [];
  readonly #bytes: number;
  readonly #classifier: Buffer;
  readonly #features: Buffer;
  readonly #dlogits: Buffer;
  readonly #dfeatures: Buffer;
  /** In place of those of the batch. */
  readonly #fixed: BnStatistics | undefined;
  #base = 0;
  /** Of the pass under way: pooled features before the neck, and their moments. */
  #neck: { pooled: Float32Array; moments: NeckMoments } | undefined;

  /**
   * For `batch` images of height x width; when `training`, everything is kept for the gradients. Throws RangeError when
   * the genotype is not a member of the space.
   */
  constructor(
    heap: Heap,
    net: Supernet,
    genotype: Genotype,
    [batch, height, width]: readonly [number, number, number],
    training: boolean,
    fixed?: BnStatistics,
  ) {
    this.#heap = heap;
    this.#net = net;
    this.#fixed = fixed;
    const list = units(net.space, genotype);
    const count = list.reduce((sum, unit) => sum + unit.layers.length, 0);
    const [forward, backward] = [(i: number) => i, (i: number) => 2 * count + 2 - i];
    const pool = count + 1;
    let input: Node | undefined;
    let size: [number, number] = [height, width];
    list.forEach((unit, u) => {
      const entry = input;
      const [firstIndex, lastIndex] = [this.#nodes.length + 1, this.#nodes.length + unit.layers.length];
      unit.layers.forEach((layer, l) => {
        const i = this.#nodes.length + 1;
        const shape = shapeOf(layer, batch, size);
        size = [shape.outHeight, shape.outWidth];
        const bytes = 4 * batch * size[0] * size[1] * layer.channelsOut;
        const closing = l === unit.layers.length - 1;
        const residual = closing && unit.residual;
        const next = closing ? list[u + 1] : undefined;
        const whole = residual || next?.residual === true;
        const lastRead = next?.residual ? lastIndex + next.layers.length : i + 1;
        const { N, K } = layers.product(shape);
        const chain = layer.depthwise ? new KernelChain(net, layer) : undefined;
        const panelBytes = chain?.bytes ?? layers.panelBytes(K, N);
        // A depthwise kernel is needed again by its gradients.
        const lastPanels = training && chain ? backward(i) : forward(i);
        const node: Node = {
          ...{ layer, shape, input, chain },
          rest: residual ? entry : undefined,
          skip: undefined,
          z: this.#need(bytes, forward(i), training ? backward(i) : whole ? i : i + 1),
          y: whole ? this.#need(bytes, forward(i), training ? backward(i + 1) : lastRead) : undefined,
          norm: this.#need(layers.normBytes(layer.channelsOut), 0, backward(0)),
          grad: training
            ? this.#need(bytes, backward(i + 1), backward(residual ? firstIndex : i))
            : undefined,
          panels: this.#need(panelBytes, forward(i), lastPanels),
          backPanels:
            training && !chain && input
              ? this.#need(layers.panelBytes(N, K), backward(i), backward(i))
              : undefined,
        };
        this.#nodes.push(node);
        input = node;
        if (residual) this.#nodes[firstIndex - 1]!.skip = node;
      });
    });
    const [W, outputs] = [net.space.head.width, net.outputs];
    const panelBytes = Math.max(layers.panelBytes(W, outputs), layers.panelBytes(outputs, W));
    this.#classifier = this.#need(panelBytes, pool, pool);
    [this.#features, this.#dfeatures] = [0, 1].map(() => this.#need(4 * batch * W, pool, pool)) as [
      Buffer,
      Buffer,
    ];
    this.#dlogits = this.#need(4 * batch * outputs, pool, pool);
    this.#bytes = place(this.#buffers);
  }

  #need(bytes: number, first: number, last: number): Buffer {
    const buffer = { bytes: Math.max(bytes, 4), first, last, offset: 0 };
    this.#buffers.push(buffer);
    return buffer;
  }

  #at(buffer: Buffer): number {
    return this.#base + buffer.offset;
  }

  #start(): void {
    this.#base = this.#heap.arena(this.#bytes);
  }

  /** Forward and backward on `batch` images; adds to `into`. `targets`: where they lie. Writes the logits, returns the loss. */
  train(images: number, targets: number | Loss, logits: number, batch: number, into: Gradients): number {
    this.#start();
    for (const node of this.#nodes) {
      this.#pack(node);
      this.#convolve(node, images, batch);
    }
    classifierPanels(this.#heap, this.#net, this.#at(this.#classifier));
    this.#classify(this.#at(this.#features), logits, batch);
    const gradient = this.#at(this.#dlogits);
    let judged: LossOfOutputs | undefined;
    let loss: number;
    if (typeof targets === 'number')
      loss = layers.crossEntropy(this.#heap, { logits, targets, gradient }, batch, this.#net.outputs);
    else {
      judged = this.#judge(targets, logits, batch);
      loss = judged.loss;
      this.#heap.floatsAt(gradient, judged.logits.length).set(judged.logits);
    }
    this.#classifyBack(batch, into, judged?.features);
    for (let i = this.#nodes.length - 1; i >= 0; i--)
      this.#convolveBack(this.#nodes[i]!, images, batch, into);
    return loss;
  }

  #judge(loss: Loss, logits: number, n: number): LossOfOutputs {
    const features = this.#neck?.pooled ?? this.#featuresNow(n).slice();
    return loss({ n, logits: this.#heap.floatsAt(logits, n * this.#net.outputs).slice(), features });
  }

  /** A view: of no use any more once memory has grown. */
  #featuresNow(batch: number): Float32Array {
    return this.#heap.floatsAt(this.#at(this.#features), batch * this.#net.space.head.width);
  }

  /** Forward with batch statistics, which `collector` is given. */
  collect(images: number, features: number, logits: number, batch: number, collector: BnCollector): void {
    this.#start();
    for (const node of this.#nodes) {
      this.#pack(node);
      this.#convolve(node, images, batch);
      const { mean, variance } = this.#norm(node);
      const [means, variances] = [mean, variance].map((at) =>
        this.#heap.floatsAt(at, node.layer.channelsOut),
      );
      collector.add(`${node.layer.name}.bn`, means!, variances!, batch);
    }
    classifierPanels(this.#heap, this.#net, this.#at(this.#classifier));
    this.#classify(features, logits, batch);
    if (this.#neck) collector.add(NECK, this.#neck.moments.mean, this.#neck.moments.variance, batch);
  }

  #variable(name: string): number {
    return this.#heap.pointer(this.#net.variable(name));
  }

  #norm({ norm, layer }: Node): layers.NormAreas {
    return layers.normAreas(this.#at(norm), layer.channelsOut, layer.activation);
  }

  /** Lays a layer's weights out, or makes its kernel. */
  #pack(node: Node): void {
    if (node.chain) {
      node.chain.make(this.#heap, this.#at(node.panels));
      return;
    }
    const { N, K } = layers.product(node.shape);
    const weight = weightOf(this.#heap, this.#net, node.layer);
    layers.packPanels(this.#heap, weight, this.#at(node.panels), K, N);
  }

  /** A node's output, as what reads it finds it. */
  #output(node: Node): { x: number; norm: layers.Norm | undefined } {
    return node.y
      ? { x: this.#at(node.y), norm: undefined }
      : { x: this.#at(node.z), norm: this.#norm(node) };
  }

  #rows(node: Node): layers.Rows {
    const { x, norm } = this.#output(node);
    const C = node.layer.channelsOut;
    return norm ? layers.normalised(this.#heap, x, C, norm) : layers.plain(x, C);
  }

  /** What a convolution's product reads. Only the stem's filter is larger than 1x1. */
  #inputRows({ input, shape }: Node, images: number): layers.Rows {
    return input ? this.#rows(input) : layers.patches(this.#heap, images, shape);
  }

  #convolve(node: Node, images: number, batch: number): void {
    const heap = this.#heap;
    const shape = { ...node.shape, batch };
    const { M, N, K } = layers.product(shape);
    const z = this.#at(node.z);
    const norm = this.#norm(node);
    const fixed = this.#fixed?.get(`${node.layer.name}.bn`, N);
    const written = fixed ? undefined : layers.collectMoments(heap, norm, N);
    if (node.chain) {
      const filter = node.chain.kernel(heap, this.#at(node.panels));
      layers.depthwise(heap, shape, { ...this.#output(node.input!), filter, y: z }, written);
    } else {
      const a = this.#inputRows(node, images);
      layers.multiply(heap, { a, panels: this.#at(node.panels), y: z, M, N, K }, written);
    }
    if (fixed) {
      heap.floatsAt(norm.mean, N).set(heap.floats(fixed.mean));
      heap.floatsAt(norm.variance, N).set(heap.floats(fixed.variance));
    } else layers.finishMoments(heap, norm, M, N);
    layers.setScale(heap, norm, { ...normOf(heap, this.#net, node.layer), epsilon: BN_EPSILON, C: N });
    if (!node.y) return;
    const y = this.#at(node.y);
    const { scale, shift, activation } = norm;
    if (node.rest) heap.kernels.affineAdd(z, this.#output(node.rest).x, y, M, N, scale, shift);
    else heap.kernels.affine(z, y, M, N, scale, shift, activation);
  }

  /** Global average pooling, the neck and the linear classifier. */
  #classify(features: number, logits: number, batch: number): void {
    const { kernels } = this.#heap;
    const last = this.#nodes.at(-1)!;
    const [W, outputs, pixels] = [last.layer.channelsOut, this.#net.outputs, pixelsOf(last)];
    const rows = this.#rows(last);
    const [room = 0] = this.#heap.scratch(4 * pixels * W);
    for (let n = 0; n < batch; n++)
      kernels.poolMean(rows(n * pixels, pixels, room), features + 4 * n * W, 1, pixels, W);
    if (this.#net.space.head.neck) this.#normalise(this.#heap.floatsAt(features, batch * W));
    const panels = this.#at(this.#classifier);
    const a = layers.plain(features, W);
    layers.multiply(this.#heap, { a, panels, y: logits, M: batch, N: outputs, K: W });
    kernels.addToRows(this.#variable('classifier.bias'), logits, batch, outputs);
  }

  /** The neck, in place. */
  #normalise(features: Float32Array): void {
    const gamma = this.#gamma();
    const fixed = this.#fixed?.get(NECK, gamma.length);
    const moments = fixed
      ? { mean: this.#heap.floats(fixed.mean), variance: this.#heap.floats(fixed.variance) }
      : momentsOf(features, gamma.length);
    this.#neck = { pooled: features.slice(), moments };
    normaliseNeck(features, features, gamma, this.#neck.moments);
  }

  #gamma(): Float32Array {
    return this.#heap.floats(this.#net.variable(`${NECK}.gamma`));
  }

  /** `more`: further gradients of the pooled features. */
  #classifyBack(batch: number, into: Gradients, more?: Float32Array): void {
    const heap = this.#heap;
    const last = this.#nodes.at(-1)!;
    const [W, outputs, pixels] = [last.layer.channelsOut, this.#net.outputs, pixelsOf(last)];
    const [dlogits, dfeatures] = [this.#at(this.#dlogits), this.#at(this.#dfeatures)];
    const panels = this.#at(this.#classifier);
    const transposed = { at: this.#variable('classifier.weight'), rowStride: 1, columnStride: outputs };
    layers.packPanels(heap, transposed, panels, outputs, W);
    const a = layers.plain(this.#at(this.#features), W);
    layers.multiplyBack(heap, {
      ...{ M: batch, N: outputs, K: W, dy: layers.plain(dlogits, outputs) },
      filter: { a, at: into.pointer(heap, 'classifier.weight'), stride: outputs },
      input: { panels, to: layers.plain(dfeatures, W) },
    });
    heap.kernels.addRows(dlogits, into.pointer(heap, 'classifier.bias'), batch, outputs);
    if (this.#neck || more) this.#featuresBack(heap.floatsAt(dfeatures, batch * W), into, more);
    const grad = this.#at(last.grad!);
    const arrived = this.#arrival(last);
    for (let n = 0; n < batch; n++) {
      const at = grad + 4 * n * pixels * W;
      heap.kernels.poolMeanBack(dfeatures + 4 * n * W, at, 1, pixels, W);
      arrived(n * pixels, pixels, at);
    }
  }

  #featuresBack(d: Float32Array, into: Gradients, more: Float32Array | undefined): void {
    if (this.#neck) {
      const gamma = this.#gamma();
      const dgamma = this.#heap.floatsAt(into.pointer(this.#heap, `${NECK}.gamma`), gamma.length);
      neckBack(this.#neck.pooled, d, gamma, this.#neck.moments, dgamma, this.#fixed !== undefined);
    }
    more?.forEach((value, i) => (d[i]! += value));
  }

  /** To be told of rows of the gradient of a node's output: takes them through the activation and sums them up. */
  #arrival(node: Node): layers.Written {
    const { kernels } = this.#heap;
    const { totals, scale, shift, mean, activation } = this.#norm(node);
    const C = node.layer.channelsOut;
    const z = this.#at(node.z);
    this.#heap.zero(totals, 16 * C);
    return (row, rows, at) => {
      // A linear node's gradient stays as it is: it may be a residual unit's, which is also added to the unit's input.
      const keep = activation === layers.ACTIVATIONS.linear ? 0 : at;
      kernels.affineGradSums(z + 4 * row * C, at, keep, rows, C, scale, shift, mean, totals, activation);
    };
  }

  #convolveBack(node: Node, images: number, batch: number, into: Gradients): void {
    const heap = this.#heap;
    const { layer, input, chain } = node;
    const shape = { ...node.shape, batch };
    const { M, N, K } = layers.product(shape);
    const norm = this.#norm(node);
    const { gamma } = normOf(heap, this.#net, layer);
    const [dgamma, dbeta] = ['gamma', 'beta'].map((key) => into.pointer(heap, `${layer.name}.bn.${key}`));
    heap.kernels.normGrad(
      ...[
        norm.totals,
        M,
        N,
        gamma,
        norm.mean,
        norm.variance,
        BN_EPSILON,
        dgamma!,
        dbeta!,
        norm.slope,
        norm.offset,
      ],
    );
    // Fixed statistics do not depend on z: the gradient is d * scale alone.
    if (this.#fixed) for (const at of [norm.slope, norm.offset]) heap.zero(at, 4 * N);
    const dy = layers.normGradient(heap, { x: this.#at(node.z), d: this.#at(node.grad!), C: N }, norm);
    const written = input && this.#inputWritten(node, input);
    const dx = input ? this.#at(input.grad!) : 0;
    if (chain) {
      const room = this.#at(node.panels);
      const filter = { ...this.#output(input!), to: chain.gradient(heap, room, into) };
      layers.depthwiseBack(heap, shape, {
        ...{ dy, filter },
        input: { filter: chain.kernel(heap, room), dx, ...(written && { written }) },
      });
      chain.back(heap, room, into);
      return;
    }
    const weight = weightOf(heap, this.#net, layer);
    const at = into.pointer(heap, `${layer.name}.weight`);
    const filter = { a: this.#inputRows(node, images), at, stride: weight.rowStride };
    if (!node.backPanels) return layers.multiplyBack(heap, { M, N, K, dy, filter });
    const panels = this.#at(node.backPanels);
    const transposed = { at: weight.at, rowStride: 1, columnStride: weight.rowStride };
    layers.packPanels(heap, transposed, panels, N, K);
    const to = layers.plain(dx, K);
    layers.multiplyBack(heap, { M, N, K, dy, filter, input: { panels, to, ...(written && { written }) } });
  }

  #inputWritten(node: Node, input: Node): layers.Written {
    const arrived = this.#arrival(input);
    if (!node.skip) return arrived;
    const { kernels } = this.#heap;
    const C = input.layer.channelsOut;
    const skipped = this.#at(node.skip.grad!);
    return (row, rows, at) => {
      kernels.add(skipped + 4 * row * C, at, rows * C);
      arrived(row, rows, at);
    };
  }
}

const pixelsOf = ({ shape }: Node) => shape.outHeight * shape.outWidth;

/**
 * `Supernet.forward` with batch statistics, which `collector` is given. Images [N,R,R,3]. Throws RangeError for other
 * shapes.
 */
export function collectOnHeap(
  heap: Heap,
  net: Supernet,
  genotype: Genotype,
  x: tf.Tensor4D,
  collector: BnCollector,
): { features: tf.Tensor2D; logits: tf.Tensor2D } {
  const size = requireImages(x);
  const [batch] = size;
  const program = new Program(heap, net, genotype, size, false);
  const features = heap.output([batch, net.space.head.width]);
  const logits = heap.output([batch, net.outputs]);
  const at = [x, features, logits].map((tensor) => heap.pointer(tensor)) as [number, number, number];
  program.collect(...at, batch, collector);
  const tensor = (info: tf.TensorInfo) => tf.engine().makeTensorFromTensorInfo(info) as tf.Tensor2D;
  return { features: tensor(features), logits: tensor(logits) };
}

/** `lossGradients` on our own kernels. */
export function lossGradientsOnHeap(
  heap: Heap,
  net: Supernet,
  genotype: Genotype,
  [images, objective]: [tf.Tensor4D, Objective],
  into: Gradients,
  bn?: BnStatistics,
): { loss: number; logits: tf.Tensor2D } {
  const size = requireImages(images);
  const [batch] = size;
  const soft = typeof objective === 'function' ? undefined : objective;
  if (soft && (soft.shape[0] !== batch || soft.shape[1] !== net.outputs))
    throw new RangeError(`targets have shape [${soft.shape.join(', ')}], not [${batch}, ${net.outputs}]`);
  const program = new Program(heap, net, genotype, size, true, bn);
  const logits = heap.output([batch, net.outputs]);
  const targets = soft ? heap.pointer(soft) : (objective as Loss);
  const loss = program.train(heap.pointer(images), targets, heap.pointer(logits), batch, into);
  return { loss, logits: tf.keep(tf.engine().makeTensorFromTensorInfo(logits) as tf.Tensor2D) };
}
