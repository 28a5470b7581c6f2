// Entry of the training kernels: everything exported here is called from src/heap.ts.
export { gemm, outerBlock, outerStore, packPanels } from './gemm';
export { gather, scatter } from './conv';
export {
  addTaps, depthwise, depthwiseBackFilter, depthwiseBackInput, frame, packPhases, packTaps, pad,
} from './depthwise';
export { addMoments, affine, affineAdd, affineGrad, affineGradSums, moments, normGrad, normScale } from './norm';
export { add, addRows, addToRows, crop, cropBack, ema, fused, poolMean, poolMeanBack, sgd, sumSquares } from './update';
