/** What a job remembers of its learning, for the report: small, checkpointed with the rest, read by nothing else. */
import type { LearningCurves, LossCurve } from '@ntaa/contracts';
import type { State } from './checkpoint.js';

/** Points of a curve: what a picture can show. */
const PARTS = 40;

/** Mean loss of `steps` steps, and the image passes of this training after them. */
export interface CurvePoint {
  part: number;
  steps: number;
  images: number;
  loss: number;
}

/** One training step of `images` images. `fraction`: where in its schedule it stands, 0..1. */
export function recordLoss(
  { curves }: State,
  role: string,
  step: { fraction: number; images: number; loss: number },
): void {
  const points = (curves.loss[role] ??= []);
  const part = Math.floor(PARTS * step.fraction);
  const last = points.at(-1);
  const images = (last?.images ?? 0) + step.images;
  if (last?.part !== part) points.push({ part, steps: 1, images, loss: step.loss });
  else {
    last.steps += 1;
    last.images = images;
    last.loss += (step.loss - last.loss) / last.steps;
  }
}

/** The qualities of architectures judged together. */
export function recordJudged(state: State, qualities: readonly number[]): void {
  if (qualities.length === 0) return;
  state.curves.judged.push({
    images: state.passes + state.step * state.plan.batchSize.transfer,
    count: qualities.length,
    best: Math.max(...qualities),
    mean: qualities.reduce((sum, value) => sum + value, 0) / qualities.length,
  });
}

export function curvesOf({ curves }: State): LearningCurves {
  const round = (value: number): number => Number(value.toPrecision(5));
  const loss = Object.entries(curves.loss).map(([role, points]): LossCurve => ({
    network: networkOf(role),
    images: points.map(({ images }) => images),
    loss: points.map((point) => round(point.loss)),
  }));
  return { loss, judged: curves.judged };
}

const networkOf = (role: string): LossCurve['network'] =>
  role === 'supernet' || role === 'baseline' ? role : 'chosen';
