/** The heap of our own kernels while they are installed; undefined where stock ops must do. */
import type { Heap } from './heap.js';

let current: Heap | undefined;

export function native(): Heap | undefined {
  return current;
}

export function setNative(heap: Heap | undefined): void {
  current = heap;
}
