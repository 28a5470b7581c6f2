import type { Sample, Splits } from './types.js';

export interface SplitFractions {
  validation?: number;
  test?: number;
}
export function splitDataset(
  _samples: readonly Sample[],
  _seed: number,
  _fractions: SplitFractions = {},
): Splits {
  throw new Error('being written');
}
