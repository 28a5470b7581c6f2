/** Memory that is not there, whichever engine misses it: the one failure that a smaller batch can cure. */

/** Thrown by the embedded engine, whose heap cannot grow any further. */
export class OutOfMemory extends RangeError {
  constructor(why: string) {
    super(`the engine is out of memory (${why}): use smaller batches`);
    this.name = 'OutOfMemory';
  }
}

/** What V8, TensorFlow and CUDA's libraries say. Other threads hand over no more than their message. */
const SAID = [
  /the engine is out of memory/,
  /array buffer allocation failed/i,
  /could not allocate memory/i,
  /WebAssembly\.Memory\.grow/,
  /OOM when allocating tensor/,
  /resource[ _]exhausted/i,
  /failed to allocate memory/i,
  /CUDA_ERROR_OUT_OF_MEMORY/,
  /(CUDNN|CUBLAS|CUSOLVER)_STATUS_(INTERNAL_ERROR_HOST_ALLOCATION_FAILED|INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED|ALLOC_FAILED)/,
];

/** Whether memory was short: main memory, a WebAssembly heap's or a GPU's. */
export function isOutOfMemory(error: unknown): boolean {
  if (error instanceof OutOfMemory) return true;
  return error instanceof Error && SAID.some((pattern) => pattern.test(error.message));
}
