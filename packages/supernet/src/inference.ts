/**
 * One architecture with fixed statistics on the engine's heap. Batch norm goes into the weights when they are packed;
 * bias, activation and residual sums are part of each layer's last touch. An image or a few go through the whole network
 * at a time, so that all of it happens in the cache; what a depthwise layer reads is written with zeros around at once.
 */
import type { Genotype } from '@ntaa/contracts';
import { layers, place, tf, type Buffer, type Heap } from '@ntaa/engine';
import { inputSize, units, type ConvLayer } from '@ntaa/nas';
import { BN_EPSILON, type BnStatistics } from './batch-norm.js';
import { KernelChain } from './kernel-chain.js';
import { NECK, normaliseNeck } from './neck.js';
import { classifierPanels, normOf, requireImages, shapeOf, weightOf } from './on-heap.js';
import type { Supernet } from './supernet.js';

/** Values of the images that go through the network at once, at its widest. */
const PART_VALUES = 64 * 1024;

interface Step {
  layer: ConvLayer;
  shape: layers.ConvShape;
  /** Where the input is; undefined: the images. Padded for the step when `padded` is set. */
  input: Buffer | undefined;
  padded: boolean;
  /** The output [M, C], or padded for the depthwise layer `reader`. A residual unit's sum is where its input was. */
  output: Buffer;
  reader: layers.ConvShape | undefined;
  sum: boolean;
  norm: Buffer;
  /** The packed weights, or the taps of a depthwise layer, whose kernel is made in `kernel`. */
  packed: Buffer;
  chain: KernelChain | undefined;
  kernel: Buffer | undefined;
}

class Inference {
  readonly #heap: Heap;
  readonly #net: Supernet;
  readonly #steps: Step[] = [];
  readonly #buffers: Buffer[] = [];
  readonly #bytes: number;
  readonly #classifier: Buffer;
  readonly #last: Step;
  #base = 0;

  /** For at most `batch` images of height x width at a time. */
  constructor(
    heap: Heap,
    net: Supernet,
    genotype: Genotype,
    [batch, height, width]: readonly [number, number, number],
  ) {
    this.#heap = heap;
    this.#net = net;
    const list = units(net.space, genotype);
    const end = list.reduce((sum, unit) => sum + unit.layers.length, 0) + 1;
    const held = (bytes: number) => this.#need(bytes, 0, end);
    let size: [number, number] = [height, width];
    let input: Buffer | undefined;
    const flat = list.flatMap((unit) =>
      unit.layers.map((layer, l) => ({ unit, layer, first: l === 0, closing: l === unit.layers.length - 1 })),
    );
    const shapes = flat.map(({ layer }) => {
      const shape = shapeOf(layer, batch, size);
      size = [shape.outHeight, shape.outWidth];
      return shape;
    });
    let entry: Buffer | undefined;
    flat.forEach(({ unit, layer, first, closing }, i) => {
      const shape = shapes[i]!;
      if (first) entry = input;
      const next = flat[i + 1];
      // The input of a residual unit is read again at its end.
      const reader = next?.layer.depthwise && !(next.first && next.unit.residual) ? shapes[i + 1] : undefined;
      const sum = closing && unit.residual;
      const { M, N, K } = layers.product(shape);
      const output = sum ? entry! : this.#need(reader ? layers.paddedBytes(reader) : 4 * M * N, i + 1, i + 2);
      output.last = Math.max(output.last, i + 2);
      if (next?.first && next.unit.residual) output.last = i + 1 + next.unit.layers.length;
      const chain = layer.depthwise ? new KernelChain(net, layer) : undefined;
      this.#steps.push({
        ...{ layer, shape, input, output, reader, sum, chain },
        padded: this.#steps.at(-1)?.reader === shape,
        norm: held(layers.normBytes(N)),
        packed: held(chain ? layers.tapBytes(layer.kernel, N) : layers.panelBytes(K, N)),
        kernel: chain && held(chain.bytes),
      });
      input = output;
    });
    this.#last = this.#steps.at(-1)!;
    this.#classifier = held(layers.panelBytes(net.space.head.width, net.outputs));
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

  /** Images in parts of at most the batch that this was made for. */
  run(images: number, features: number, logits: number, count: number, statistics: BnStatistics): void {
    this.#base = this.#heap.arena(this.#bytes);
    for (const step of this.#steps) this.#pack(step, statistics);
    const panels = this.#at(this.#classifier);
    classifierPanels(this.#heap, this.#net, panels);
    const { shape } = this.#steps[0]!;
    const { outHeight, outWidth } = this.#last.shape;
    const [W, outputs] = [this.#net.space.head.width, this.#net.outputs];
    const works = (part: number) => this.#steps.map((step) => this.#work(step, part));
    const [whole, rest] = [works(shape.batch), works(count % shape.batch)];
    const x = this.#at(this.#last.output);
    for (let n = 0; n < count; n += shape.batch) {
      const part = Math.min(shape.batch, count - n);
      const from = images + 4 * n * shape.height * shape.width * shape.channels;
      for (const work of part < shape.batch ? rest : whole) work(from);
      this.#heap.kernels.poolMean(x, features + 4 * n * W, part, outHeight * outWidth, W);
    }
    if (this.#net.space.head.neck) this.#normalise(this.#heap.floatsAt(features, count * W), statistics);
    const finish = { bias: this.#heap.pointer(this.#net.variable('classifier.bias')), activation: 0 };
    const a = layers.plain(features, W);
    layers.multiply(this.#heap, { a, panels, y: logits, M: count, N: outputs, K: W, finish });
  }

  /** The neck, in place. */
  #normalise(features: Float32Array, statistics: BnStatistics): void {
    const gamma = this.#heap.floats(this.#net.variable(`${NECK}.gamma`));
    const { mean, variance } = statistics.get(NECK, gamma.length);
    normaliseNeck(features, features, gamma, {
      mean: this.#heap.floats(mean),
      variance: this.#heap.floats(variance),
    });
  }

  #norm({ norm, layer }: Step): layers.NormAreas {
    return layers.normAreas(this.#at(norm), layer.channelsOut, layer.activation);
  }

  /** Weights times the batch norm's scale. */
  #pack(step: Step, statistics: BnStatistics): void {
    const { layer, shape, chain } = step;
    const heap = this.#heap;
    const moments = statistics.get(`${layer.name}.bn`, layer.channelsOut);
    const { scale, shift } = this.#norm(step);
    const [mean, variance] = [heap.pointer(moments.mean), heap.pointer(moments.variance)];
    const C = layer.channelsOut;
    layers.setScale(
      heap,
      { mean, variance, scale, shift },
      { ...normOf(heap, this.#net, layer), epsilon: BN_EPSILON, C },
    );
    const packed = this.#at(step.packed);
    if (chain) {
      const room = this.#at(step.kernel!);
      chain.make(heap, room);
      layers.packTaps(heap, chain.kernel(heap, room), packed, shape, scale);
    } else {
      const { N, K } = layers.product(shape);
      layers.packPanels(heap, weightOf(heap, this.#net, layer), packed, K, N, scale);
    }
  }

  /** What a step does to `batch` images, of which only the first knows where they are. */
  #work(step: Step, batch: number): (images: number) => void {
    const heap = this.#heap;
    const { input, reader, chain, padded } = step;
    const shape = { ...step.shape, batch };
    const { M, N, K } = layers.product(shape);
    const norm = this.#norm(step);
    const finish = step.sum ? layers.foldedSum(norm) : layers.folded(norm);
    const [y, packed] = [this.#at(step.output), this.#at(step.packed)];
    if (chain) {
      const given = { x: this.#at(input!), taps: packed, y, finish };
      return padded
        ? () => layers.depthwisePadded(heap, shape, given)
        : () => layers.depthwise(heap, shape, given);
    }
    const given = { panels: packed, y, M, N, K, finish };
    const to = reader && { ...reader, batch };
    const multiply = (a: layers.Rows) =>
      to ? layers.multiplyPadded(heap, { a, ...given }, to) : layers.multiply(heap, { a, ...given });
    if (!input) return (images) => multiply(layers.patches(heap, images, shape));
    const a = layers.plain(this.#at(input), K);
    return () => multiply(a);
  }
}

/** `Supernet.forward` with fixed statistics. Images [N,H,W,3]. Throws RangeError for other shapes. */
export function inferOnHeap(
  heap: Heap,
  net: Supernet,
  genotype: Genotype,
  x: tf.Tensor4D,
  statistics: BnStatistics,
): { features: tf.Tensor2D; logits: tf.Tensor2D } {
  const [count, height, width] = requireImages(x);
  // Relative to the input: images of another size than the genotype's go through it, too.
  const input = inputSize(net.space, genotype);
  const widest = Math.max(
    ...units(net.space, genotype).flatMap((unit) =>
      unit.layers.map(
        (layer) => layer.channelsOut * (layer.height / input.height) * (layer.width / input.width),
      ),
    ),
  );
  const part = Math.max(1, Math.min(count, Math.floor(PART_VALUES / (widest * height * width))));
  const program = new Inference(heap, net, genotype, [part, height, width]);
  const features = heap.output([count, net.space.head.width]);
  const logits = heap.output([count, net.outputs]);
  const at = [x, features, logits].map((tensor) => heap.pointer(tensor)) as [number, number, number];
  program.run(...at, count, statistics);
  const tensor = (info: tf.TensorInfo) => tf.engine().makeTensorFromTensorInfo(info) as tf.Tensor2D;
  return { features: tensor(features), logits: tensor(logits) };
}
