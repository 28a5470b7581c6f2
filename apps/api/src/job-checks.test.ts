import { expect, test } from 'vitest';
import type { AdaptRequest, Dataset, PretrainRequest } from '@ntaa/contracts';
import { cost, costRange, handDesigned, tinySpace } from '@ntaa/nas';
import { makePlan, makePretrainPlan } from '../../../packages/adaptation/src/plan.js';
import { estimate, TRAINED_MACS_PER_SECOND } from './job-checks.js';

const IMAGES = 1797;
const dataset = {
  counts: { images: IMAGES, skipped: 0, bytes: 1, classes: 10, splits: null },
} as unknown as Dataset;
const [train, validation] = [IMAGES - 2 * 359, 359];
const adapt = { kind: 'adapt', task: 'classification', dataset: 'ds_1' } as AdaptRequest;

const { min, max } = costRange(tinySpace, 10);
const middle = cost(tinySpace, handDesigned(tinySpace), 10).macs;
const sandwich = min.macs + max.macs + 2 * middle;
/** What an estimate's seconds stand for beyond what every job takes. */
const macsOf = (request: AdaptRequest | PretrainRequest): number => {
  const idle = estimate({ ...adapt, baseline: false, budget: { max_candidates: 1 } }, { counts: null } as Dataset, tinySpace); // prettier-ignore
  return (
    (estimate(request, dataset, tinySpace).estimate.seconds - idle.estimate.seconds) * TRAINED_MACS_PER_SECOND
  );
};

test.each([1, 12, 48, null])('estimates what the trainer plans for %s candidates', (max_candidates) => {
  const budget = { max_candidates };
  const plan = makePlan({
    ...{ budget, train, trainAndValidation: train + validation, baseline: true },
    ...{ now: 0, startedAt: 0, speeds: null },
  });
  const transferred = plan.transferSteps * plan.batchSize.transfer;
  const finetuned = plan.finetuneSteps * plan.batchSize.finetune;
  const training = transferred * (sandwich + middle) + finetuned * 2 * middle;
  const ratio = macsOf({ ...adapt, budget }) / training;
  expect(ratio).toBeGreaterThan(0.85);
  // Judging candidates comes on top.
  expect(ratio).toBeLessThan(1.25);
});

test('linear evaluation is estimated at a fraction, for it trains nothing', () => {
  const seconds = (paradigm: AdaptRequest['paradigm']) =>
    macsOf({ ...adapt, paradigm: paradigm!, budget: { max_candidates: 48 } });
  const ratio = seconds('linear-evaluation') / seconds('supervised');
  expect(ratio).toBeGreaterThan(0.005);
  expect(ratio).toBeLessThan(0.1);
});

test('estimates what the trainer plans for a pretraining', () => {
  const request = { kind: 'pretrain', dataset: 'ds_1' } as PretrainRequest;
  const plan = makePretrainPlan({ startedAt: 0, budget: {} }, train);
  const ratio = macsOf(request) / (plan.transferSteps * plan.batchSize.transfer * sandwich);
  expect(Math.abs(Math.log(ratio))).toBeLessThan(0.1);
});

test('a clock is an upper bound, which a small dataset need not reach', () => {
  const seconds = (max_seconds: number) =>
    estimate({ ...adapt, budget: { max_seconds } }, dataset, tinySpace).estimate.seconds;
  expect(seconds(20)).toBe(20);
  const whole = estimate(adapt, dataset, tinySpace).estimate.seconds;
  expect(seconds(86_400)).toBeGreaterThan(whole);
  expect(seconds(86_400)).toBeLessThan(86_400);
});
