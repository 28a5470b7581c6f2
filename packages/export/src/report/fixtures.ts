/** A job's own account, made up, for tests. */
import type { Candidate, Genotype, SearchSpace } from '@ntaa/contracts';
import { cost, largest, smallest } from '@ntaa/nas';
import type { ReportInput } from './input.js';

/** `key`: by which candidates are compared. */
export function reportInput(space: SearchSpace, chosen: Genotype, key = 'top1'): ReportInput {
  const candidate = (genotype: Genotype, value: number, pareto: boolean, selected = false): Candidate => {
    const { macs, params } = cost(space, genotype, 10);
    const metrics = { [key]: value };
    return { genotype, macs, params, latency_ms: null, score: -1 / value, metrics, pareto, selected };
  };
  const least = smallest(space);
  return {
    candidates: [
      candidate(largest(space), 0.71, true),
      candidate(chosen, 0.68, true, true),
      candidate(least, 0.55, true),
      candidate({ ...least, stages: chosen.stages }, 0.6, false),
    ],
    gain: {
      metric: key,
      images: 200,
      reference: { genotype: least, macs: cost(space, least, 10).macs },
      source_weights: { reference: 0.31, chosen: 0.39 },
      transferred_weights: { reference: 0.61, chosen: 0.67 },
      finetuned: 0.74,
      finetuned_share: 0.15,
    },
    curves: {
      loss: (['supernet', 'finalist', 'baseline', 'chosen'] as const).map((network, k) => ({
        network,
        images: Array.from({ length: 20 }, (_, i) => 640 * (i + 1)),
        loss: Array.from({ length: 20 }, (_, i) => 0.5 + 0.1 * k + 2 / (i + 1 + k)),
      })),
      judged: [1, 2, 3].map((round) => ({
        images: 4000 * round,
        count: 8,
        best: 0.5 + 0.06 * round,
        mean: 0.42 + 0.05 * round,
      })),
    },
    search: { evaluated: 4, pareto_size: 3, rank_correlation: 0.62 },
    seconds: { prepare: 1.5, transfer: 60.25, search: 20 },
    stopReason: 'budget_exhausted',
    request: { kind: 'adapt', task: 'classification', dataset: 'ds_1', budget: { max_candidates: 4 } },
    space,
    source: { genotype: largest(space), top1: 0.9175 },
  };
}
