import { describe, expect, it } from 'vitest';
import { FIRST_PART } from '@ntaa/nas';
import { finetuneStepsLeft, makePlan, Pace, restAfterFirstPart, type PlanInput } from './plan.js';

const input = (extra: Partial<PlanInput>): PlanInput => ({
  budget: {},
  train: 1000,
  trainAndValidation: 1300,
  baseline: true,
  now: 5_000,
  startedAt: 0,
  speeds: null,
  ...extra,
});
const speeds = { sandwich: 0.005, fixed: 0.001, evaluation: 0.5 };

describe('plans', () => {
  it('without a clock depend neither on the time nor on the machine', () => {
    const budget = { max_candidates: 20 };
    const plan = makePlan(input({ budget }));
    expect(makePlan(input({ budget, now: 999_999, startedAt: 7, speeds }))).toEqual(plan);
    expect(plan).toMatchObject({ deadline: null, transferDeadline: null, bounded: false });
    expect(plan.rounds * plan.perRound + plan.searchCandidates).toBe(20);
  });

  it('give a task the batch that its loss needs, in as many image passes', () => {
    const [usual, large, halved] = [{}, { leastBatch: 64 }, { leastBatch: 64, halved: true }].map((extra) =>
      makePlan(input({ budget: { max_candidates: 20 }, ...extra })),
    );
    expect([usual, large, halved].map((plan) => plan!.batchSize.transfer)).toEqual([32, 64, 32]);
    expect(large!.transferSteps * 64).toBeCloseTo(usual!.transferSteps * 32, -2);
    // More images than that have larger batches anyway.
    expect(makePlan(input({ train: 9000, leastBatch: 64 })).batchSize.transfer).toBe(64);
  });

  it('with a clock fit what was measured into the time', () => {
    for (const max_seconds of [30, 100, 300, 1000]) {
      const plan = makePlan(input({ budget: { max_seconds }, speeds }));
      const evaluated = plan.rounds * plan.perRound + plan.searchCandidates;
      const seconds =
        plan.transferSteps * plan.batchSize.transfer * speeds.sandwich + evaluated * speeds.evaluation;
      expect(plan.deadline!).toBeLessThan(1000 * max_seconds);
      expect(seconds).toBeLessThan(max_seconds);
      expect(plan.transferDeadline!).toBeLessThan(plan.deadline!);
    }
  });

  it('leave the baseline the time for as many image passes', () => {
    const plan = makePlan(input({ budget: { max_seconds: 300 }, speeds }));
    const [images, secondsLeft, chosen, baseline, passes] = [1300, 200, 0.002, 0.001, 5000];
    const steps = finetuneStepsLeft({ plan, images, secondsLeft, chosen, baseline, passes });
    const own = steps * plan.batchSize.finetune;
    const total = own * chosen + (passes + own) * baseline;
    expect(total).toBeGreaterThan(180);
    expect(total).toBeLessThanOrEqual(200);
  });

  it('fill what is left of the clock after the first part of finetuning, at the speed it had', () => {
    const plan = makePlan(input({ budget: { max_seconds: 300 }, speeds }));
    const [secondsLeft, images, passes, chosen, baseline] = [120, 1300, 30_000, 0.002, 0.001];
    const { steps, seconds } = restAfterFirstPart({ plan, images, secondsLeft, chosen, baseline, passes });
    expect(seconds + (passes + seconds / chosen) * baseline).toBeCloseTo(secondsLeft);
    // Steps end it only on a machine that has become faster.
    const rest = (1 - FIRST_PART) * steps * plan.batchSize.finetune;
    expect(rest * chosen).toBeGreaterThan(1.4 * seconds);
    expect(rest * chosen).toBeLessThan(1.6 * seconds);
    expect(restAfterFirstPart({ plan, images, secondsLeft: 1, chosen, baseline, passes })).toEqual({
      steps: 10,
      seconds: 0,
    });
  });
});

describe('pace', () => {
  it('is as far as steps or time, whichever is further', () => {
    const pace = new Pace(100, 1000, 2000);
    expect(pace.fraction(10, 1000)).toBe(0.1);
    expect(pace.fraction(10, 1500)).toBe(0.5);
    expect(pace.fraction(100, 1500)).toBe(1);
    expect(pace.fraction(0, 9999)).toBe(1);
    expect(new Pace(100, 1000, null).fraction(10, 99_999)).toBe(0.1);
  });
  it('covers its part of a schedule', () => {
    const pace = new Pace(100, 1000, 2000, [0.25, 1]);
    expect(pace.fraction(25, 1000)).toBe(0.25);
    expect(pace.fraction(25, 1500)).toBe(0.625);
  });
});
