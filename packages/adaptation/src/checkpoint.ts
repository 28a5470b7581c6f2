import type { Choice, Gain, Genotype, LearningCurves } from '@ntaa/contracts';
import { readSafetensors, writeSafetensors, type NamedTensors } from '@ntaa/supernet';
import type { CurvePoint } from './curves.js';
import type { Evaluation } from './evaluate.js';
import type { LatencyModel } from './latency.js';
import type { Plan } from './plan.js';
import { freshState } from './state.js';

/** An architecture as it was judged. `version`: how many training rounds the shared weights had seen. */
export interface EvaluationRecord extends Evaluation {
  key: string;
  genotype: Genotype;
  score: number;
  loss: number;
  /** Standard error of the loss over the validation images. */
  error: number;
  quality: number;
  metrics: Readonly<Record<string, number>>;
  macs: number;
  params: number;
  latency_ms: number | null;
  version: number;
}

export type Phase = 'transfer' | 'search' | 'finetune' | 'baseline' | 'evaluate';

/** Everything a job must remember to go on exactly where it was, but the weights. */
export interface State {
  phase: Phase;
  plan: Plan;
  /** Resolutions of the space that are searched. */
  resolutions: number[];
  /** Set where the job's objective or constraints speak of latency. */
  latency: LatencyModel | null;
  /** Measured training seconds for one multiply-accumulate; null for jobs without a clock. */
  speed: number | null;
  step: number;
  /** When the current phase began, ms since the epoch. */
  phaseStarted: number;
  version: number;
  archive: EvaluationRecord[];
  distribution: unknown;
  tau: number | null;
  selected: Genotype | null;
  /** How the search's best compared with the usual architecture; null: they are one, or were not compared. */
  choice: Choice | null;
  /** For the report. `loss`: by role of the weights. */
  gain: Gain | null;
  curves: { loss: Record<string, CurvePoint[]>; judged: LearningCurves['judged'] };
  /** Image passes made by transfer and finetuning: what the baseline gets too. */
  passes: number;
  finetuneSteps: number;
  baselineSteps: number;
  seconds: Record<string, number>;
  /** The clock, or the user, ended a phase before its plan did. */
  cut: 'no' | 'clock' | 'user';
  /** Batches are half of what they would be, because memory was short. */
  halved: boolean;
}

/** Weights by role: `supernet`, `net` (chosen), `baseline`, each with `.ema` and `.momentum` while it trains. */
export type Weights = Map<string, NamedTensors>;

/** One file: tensors named `role/tensor`, the state as JSON in the header. */
export function encodeCheckpoint(state: State, weights: Weights): Uint8Array {
  const all: NamedTensors = new Map();
  for (const [role, tensors] of weights)
    for (const [name, tensor] of tensors) all.set(`${role}/${name}`, tensor);
  return writeSafetensors(all, { state: JSON.stringify(state) });
}

export function decodeCheckpoint(bytes: Uint8Array): { state: State; weights: Weights } {
  const { tensors, metadata } = readSafetensors(bytes);
  const weights: Weights = new Map();
  for (const [path, tensor] of tensors) {
    const slash = path.indexOf('/');
    const role = path.slice(0, slash);
    if (!weights.has(role)) weights.set(role, new Map());
    weights.get(role)!.set(path.slice(slash + 1), tensor);
  }
  // Defaults for what an older version did not keep.
  return { state: { ...freshState(), ...(JSON.parse(metadata['state']!) as State) }, weights };
}
