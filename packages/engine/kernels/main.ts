// Entry of the training kernels: everything exported here is called from src/heap.ts.
export { gemm, gemmOuter, packPanels } from './gemm';
export { convBackFilter, convBackInput, convForward } from './conv';
export { depthwise, depthwiseBackFilter, depthwiseBackInput, packPhases, packTaps } from './depthwise';
export { affine, affineGrad, affineGradSums, moments } from './norm';
export { ema, fused, poolMean, sgd, sumSquares } from './update';
