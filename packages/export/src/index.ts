/** A trained network as files for other runtimes: ONNX, TensorFlow.js, safetensors and the bundle of all. */
export { buildBundle, type Bundle, type BundleInput } from './bundle.js';
export type { ComparedNetwork, ModelCard } from './card.js';
export type { ReportInput, SourceArchitecture } from './report/input.js';
export { TOLERANCE, type VerifyInput } from './verify.js';
