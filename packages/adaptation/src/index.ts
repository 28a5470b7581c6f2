export { adapt, type AdaptOutcome, type Outcome } from './adapt.js';
export type { AdaptInput } from './begin.js';
export { Helper } from './helper.js';
export {
  Interrupted,
  type Elsewhere,
  type NextPiece,
  type ObjectRef,
  type PieceSpec,
  type Ports,
} from './ports.js';
export {
  aspectFor,
  packAt,
  prepareTarget,
  resolutionsToPack,
  usefulResolutions,
  type PrepareInput,
} from './prepare.js';
export { prepareDomains } from './prepare-domains.js';
export { pretrain, type PretrainInput, type PretrainOutcome } from './pretrain.js';
export { evaluationBatches, type TargetData } from './target-data.js';
