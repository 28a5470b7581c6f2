import type { State } from './checkpoint.js';
import { half, makePretrainPlan } from './plan.js';

/** A job that has done nothing yet. */
export function freshState(): State {
  return {
    phase: 'transfer',
    resolutions: [],
    latency: null,
    speed: null,
    plan: makePretrainPlan({ startedAt: 0, budget: {} }, 1),
    step: 0,
    phaseStarted: 0,
    version: 0,
    archive: [],
    distribution: null,
    tau: null,
    choice: null,
    gain: null,
    curves: { loss: {}, judged: [] },
    selected: null,
    passes: 0,
    finetuneSteps: 0,
    baselineSteps: 0,
    seconds: {},
    cut: 'no',
    halved: false,
  };
}

/** From here on batches of half the size in twice the steps: the same images under the same schedule. */
export function halveBatches(state: State): void {
  if (state.halved) return;
  const { plan } = state;
  plan.batchSize = { transfer: half(plan.batchSize.transfer), finetune: half(plan.batchSize.finetune) };
  plan.transferSteps *= 2;
  plan.finetuneSteps *= 2;
  state.finetuneSteps *= 2;
  state.baselineSteps *= 2;
  // A search counts rounds of candidates, which are no batches.
  if (state.phase !== 'search') state.step *= 2;
  state.halved = true;
}
