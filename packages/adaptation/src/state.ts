import type { State } from './checkpoint.js';
import { makePretrainPlan } from './plan.js';

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
    finalists: [],
    raced: [],
    selected: null,
    passes: 0,
    finetuneSteps: 0,
    baselineSteps: 0,
    seconds: {},
    cut: 'no',
  };
}
