/** What a report is made from: what the API says of the job and its model. */
import type {
  AdaptRequest,
  Candidate,
  Gain,
  Genotype,
  LearningCurves,
  Manifest,
  SearchSpace,
  StopReason,
} from '@ntaa/contracts';
import type { ComparedNetwork, ModelCard } from '../card.js';

/** An architecture that the source supernet was measured at when it was pretrained. */
export interface SourceArchitecture {
  genotype: Genotype;
  /** Accuracy on held-out images of the source, 0..1. */
  top1: number;
}

export interface ReportInput {
  /** `candidates`, and parts of `result`. */
  candidates: readonly Candidate[];
  gain: Gain | null;
  curves: LearningCurves;
  search: { evaluated: number; pareto_size: number; rank_correlation: number | null };
  seconds: Readonly<Record<string, number>>;
  stopReason: StopReason;
  request: AdaptRequest;
  /** The one that was searched. */
  space: SearchSpace;
  /** Best of those measured. */
  source: SourceArchitecture | null;
}

/** Everything a part of the report may show. */
export interface Subject {
  manifest: Omit<Manifest, 'files'>;
  card: ModelCard;
  job: ReportInput;
}

/** The three networks measured at the end. */
export function measuredNetworks({ manifest, card }: Subject) {
  const { metrics, macs, params, genotype } = manifest;
  const chosen: ComparedNetwork = { metrics, macs, params, genotype };
  return [
    { mark: 'chosen' as const, name: card.finetuned ? 'chosen, finetuned' : 'chosen', network: chosen },
    ...(card.baseline ? [{ mark: 'baseline' as const, name: 'WP&F baseline', network: card.baseline }] : []),
    ...(card.largest
      ? [{ mark: 'largest' as const, name: 'largest, in the supernet', network: card.largest }]
      : []),
  ];
}
