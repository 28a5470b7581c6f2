/** The kernel of a depthwise layer on the heap: all of a variable, or what its kernel transforms make of the centre. */
import { layers, type Gradients, type Heap } from '@ntaa/engine';
import type { ConvLayer } from '@ntaa/nas';
import { transformName } from './layout.js';
import type { Supernet } from './supernet.js';

/** Smaller kernel [taps, C] = matrix [taps, taps] times the centre of a kernel of `size`. Offsets of buffers in bytes. */
interface Step {
  size: number;
  taps: number;
  matrix: string;
  centre: number;
  kernel: number;
  /** Gradients of the kernel, of its centre and of the matrix. */
  dkernel: number;
  dcentre: number;
  dmatrix: number;
}

export class KernelChain {
  /** Room it needs, from making the kernel until its gradients are done. */
  readonly bytes: number;
  readonly #net: Supernet;
  readonly #layer: ConvLayer;
  readonly #stride: number;
  readonly #steps: Step[] = [];
  readonly #panels: number;

  constructor(net: Supernet, layer: ConvLayer) {
    this.#net = net;
    this.#layer = layer;
    const [size = 0, , stride = 0] = net.variable(`${layer.name}.weight`).shape;
    this.#stride = stride;
    const C = layer.channelsOut;
    let bytes = 0;
    const need = (values: number) => {
      bytes += Math.ceil(values / 4) * 16;
      return bytes - Math.ceil(values / 4) * 16;
    };
    for (let from = size; from > layer.kernel; from -= 2) {
      const taps = (from - 2) ** 2;
      const [centre, kernel, dkernel, dcentre] = [0, 1, 2, 3].map(() => need(taps * C)) as [
        ...[number, number, number, number],
      ];
      const matrix = transformName(layer.name, from);
      this.#steps.push({
        size: from,
        taps,
        matrix,
        centre,
        kernel,
        dkernel,
        dcentre,
        dmatrix: need(taps ** 2),
      });
    }
    const widest = this.#steps[0]?.taps ?? 0;
    this.#panels = need(Math.max(layers.panelBytes(widest, C), layers.panelBytes(C, widest)) / 4);
    this.bytes = bytes;
  }

  /** Makes the kernel, in room at `room`. */
  make(heap: Heap, room: number): void {
    const C = this.#layer.channelsOut;
    const panels = room + this.#panels;
    let from: layers.Taps = {
      at: heap.pointer(this.#net.variable(`${this.#layer.name}.weight`)),
      stride: this.#stride,
    };
    for (const step of this.#steps) {
      const [centre, y] = [room + step.centre, room + step.kernel];
      heap.kernels.crop(from.at, centre, step.size, C, from.stride);
      layers.packPanels(heap, { at: centre, rowStride: C, columnStride: 1 }, panels, step.taps, C);
      const a = layers.plain(heap.pointer(this.#net.variable(step.matrix)), step.taps);
      layers.multiply(heap, { a, panels, y, M: step.taps, N: C, K: step.taps });
      from = { at: y, stride: C };
    }
  }

  /** The kernel that make() made. */
  kernel(heap: Heap, room: number): layers.Taps {
    const step = this.#steps.at(-1);
    if (step) return { at: room + step.kernel, stride: this.#layer.channelsOut };
    return { at: heap.pointer(this.#net.variable(`${this.#layer.name}.weight`)), stride: this.#stride };
  }

  /** Where the layer is to add the gradient of its kernel. */
  gradient(heap: Heap, room: number, into: Gradients): layers.Taps {
    const step = this.#steps.at(-1);
    if (!step) return { at: into.pointer(heap, `${this.#layer.name}.weight`), stride: this.#stride };
    const C = this.#layer.channelsOut;
    heap.zero(room + step.dkernel, 4 * step.taps * C);
    return { at: room + step.dkernel, stride: C };
  }

  /** Carries that gradient on to the matrices and the variable. */
  back(heap: Heap, room: number, into: Gradients): void {
    const C = this.#layer.channelsOut;
    const { kernels } = heap;
    const panels = room + this.#panels;
    for (let i = this.#steps.length - 1; i >= 0; i--) {
      const { size, taps, matrix, centre, dkernel, dcentre, dmatrix } = this.#steps[i]!;
      heap.zero(room + dcentre, 4 * taps * C);
      layers.packPanels(heap, { at: room + centre, rowStride: 1, columnStride: C }, panels, C, taps);
      const a = layers.plain(heap.pointer(this.#net.variable(matrix)), taps);
      layers.multiplyBack(heap, {
        ...{ M: taps, N: C, K: taps, dy: layers.plain(room + dkernel, C) },
        filter: { a, at: room + dcentre, stride: C },
        input: { panels, to: layers.plain(room + dmatrix, taps) },
      });
      kernels.add(room + dmatrix, into.pointer(heap, matrix), taps ** 2);
      const larger = this.#steps[i - 1];
      if (larger) heap.zero(room + larger.dkernel, 4 * larger.taps * C);
      const to = larger
        ? { at: room + larger.dkernel, stride: C }
        : { at: into.pointer(heap, `${this.#layer.name}.weight`), stride: this.#stride };
      kernels.cropBack(room + dcentre, to.at, size, C, to.stride);
    }
  }
}
