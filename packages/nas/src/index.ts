/** Search spaces, genotypes, costs and the search over them. Pure: no tensors, no files, no clocks. */
export { cost, costRange, nearestAchievable, violation, type Unreachable } from './cost.js';
export { fixedArchitecture } from './fixed.js';
export { Distribution } from './distribution.js';
export { decode, encode, genes, type Gene, type Genome } from './genome.js';
export { canonical, parseCanonical } from './canonical.js';
export { ridgeSolve } from './ridge.js';
export { crowdingDistance, nsga2, paretoFront, type Nsga2Options } from './nsga2.js';
export { fitPredictor, type Predictor, type ScoredGenotype } from './predictor.js';
export {
  countArchitectures,
  frozenSpace,
  handDesigned,
  inputSize,
  isMember,
  largest,
  restrictResolutions,
  smallest,
  tinySpace,
} from './space.js';
export {
  CALIBRATION_IMAGES,
  DEFAULT_CANDIDATES,
  defaultEpochs,
  EPOCHS,
  FINETUNE_RATIO,
  FIRST_PART,
  PROBE,
  probeImages,
} from './schedule.js';
export { scaleOf, type Scale } from './scale.js';
export {
  kendallTau,
  meanInterval,
  meanOf,
  pairedBootstrap,
  standardError,
  wilsonInterval,
} from './statistics.js';
export { AGE_BINS, headOutputs, inputAspect, taskSpace } from './task-space.js';
export { units, type ConvLayer, type Unit } from './units.js';
