// Entry of the training kernels; which of these functions are called, src/heap.ts says. The others are exported, too, so
// that they stay functions of their own.
export * from './gemm';
export * from './conv';
export * from './depthwise';
export * from './norm';
export * from './update';
