export { augment, normalise, type AugmentPolicy, type ImageSize } from './augment.js';
export { FormulaSource, TINY_RECIPE, type FormulaFamily, type FormulaOptions } from './formula.js';
export { decodeImage } from './image.js';
export { DEFAULT_LIMITS, ingest, type IngestOptions } from './ingest.js';
export { medianAspect, RefusedDataset } from './report.js';
export { BatchLoader, type Batch, type BatchLoaderOptions } from './loader.js';
export { channelStatistics, packImages, PackedImages, type PackedHandle, type PackJob } from './pack.js';
export { splitDataset, type SplitFractions } from './split.js';
export type { DatasetIndex, IngestLimits, IngestResult, PackOptions, Sample, Splits } from './types.js';
