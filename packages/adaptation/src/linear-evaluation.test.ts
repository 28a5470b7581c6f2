import { createHash } from 'node:crypto';
import type { AgeMetrics, ClassificationMetrics } from '@ntaa/contracts';
import { memory } from '@ntaa/engine';
import { largest } from '@ntaa/nas';
import type { NamedTensors } from '@ntaa/supernet';
import { taskFor } from '@ntaa/tasks';
import { Rng } from '@ntaa/random';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startTestEngine } from '../../../test/setup/engine.js';
import { adapt, type AdaptOutcome } from './adapt.js';
import { decodeCheckpoint } from './checkpoint.js';
import { drawnTarget, TASK_TARGETS, TEST_SPACE as space, type DrawnTarget } from './fixtures.js';
import { winner } from './linear-evaluation.js';
import { Interrupted, type Ports } from './ports.js';
import { pretrain } from './pretrain.js';
import { chooseProbe, fitProbe } from './probe.js';
import type { TargetData } from './target-data.js';

let target: DrawnTarget;
let source: NamedTensors;

beforeAll(async () => {
  await startTestEngine();
  target = drawnTarget();
  // A probe is as good as the features: those of a supernet that knows such drawings.
  const ports = portsOf({});
  const budget = { max_epochs: 30 };
  const { data } = target;
  source = (await pretrain({ data, space, seed: 3, startedAt: Date.now(), budget, ports })).tensors;
}, 120_000);
afterAll(() => target.close());

interface Surroundings {
  from?: Uint8Array | undefined;
  saved?: ((bytes: Uint8Array) => void) | undefined;
  wanted?: Ports['wanted'] | undefined;
  now?: Ports['now'] | undefined;
  threads?: number;
  halfBatch?: boolean;
}

function run(
  { from, saved, wanted, now, threads = 2, halfBatch = false }: Surroundings = {},
  extra: object = {},
  given: Partial<TargetData> = {},
): Promise<AdaptOutcome> {
  const startedAt = now?.() ?? Date.now();
  return adapt({
    request: {
      ...{ kind: 'adapt', task: 'classification', dataset: 'ds_test', seed: 1 },
      ...{ paradigm: 'linear-evaluation', budget: { max_candidates: 12 }, ...extra },
    },
    ...{ startedAt, threads, halfBatch, data: { ...target.data, ...given }, space, source },
    ports: portsOf({ from, saved, wanted, now }),
  });
}

function portsOf({ from, saved, wanted, now }: Surroundings): Ports {
  return {
    progress: () => undefined,
    events: () => undefined,
    candidates: () => undefined,
    wanted: wanted ?? (() => 'run'),
    now: now ?? (() => Date.now()),
    checkpoint: {
      load: () => Promise.resolve(from ?? null),
      save: (bytes) => Promise.resolve(saved?.(bytes)),
    },
  };
}

/** Digest of everything that is delivered; disposes the outcome. */
function digest(outcome: AdaptOutcome): string {
  const hash = createHash('sha256');
  for (const tensors of [outcome.net.tensors(), outcome.bn.tensors()])
    for (const [name, { data: values }] of tensors) hash.update(name).update(values);
  hash.update(JSON.stringify([outcome.metrics, outcome.baseline?.metrics, outcome.largest, outcome.search]));
  outcome.net.dispose();
  outcome.bn.dispose();
  return hash.digest('hex');
}

it('judges frozen networks by probes, leaks nothing, and resumes from any checkpoint to the same bytes', async () => {
  const checkpoints: Uint8Array[] = [];
  const before = memory().tensors;
  // An hour passes between any two looks at the clock, so that every round is checkpointed.
  let hours = 0;
  const now = () => 3_600_000 * ++hours;
  const outcome = await run({ saved: (bytes) => checkpoints.push(bytes), now });
  const top1 = (metrics: unknown) => (metrics as ClassificationMetrics).top1;
  for (const { metrics } of [outcome, outcome.baseline!, outcome.largest!])
    expect(top1(metrics)).toBeGreaterThan(0.7);
  expect(outcome.search.evaluated).toBe(12);
  expect(Object.keys(outcome.seconds)).not.toContain('transfer');
  // Backbone and classifier: the one is the source's, the other is not.
  const stem = outcome.net.tensors().get('stem.weight')!.data;
  expect(stem).toEqual(source.get('stem.weight')!.data);
  const expected = digest(outcome);
  expect(memory().tensors).toBe(before);

  const states = checkpoints.map((bytes) => decodeCheckpoint(bytes).state);
  expect(new Set(states.map(({ phase }) => phase))).toEqual(
    new Set(['search', 'finetune', 'baseline', 'evaluate']),
  );
  expect(states.filter(({ phase }) => phase === 'search').length).toBeGreaterThan(3);
  for (const [i, from] of checkpoints.entries()) {
    // Nothing is trained, so that half the batch changes nothing either.
    const resumed = await run({ from, halfBatch: i % 2 === 1 });
    expect(digest(resumed), `checkpoint ${i}, ${states[i]!.phase}`).toBe(expected);
  }
  expect(digest(await run({ threads: 1 }))).toBe(expected);
}, 120_000);

it('chooses the finalist with the least loss, or a cheaper one that is as good', () => {
  const genotype = largest(space);
  const of = (loss: number, price: number) => ({ genotype: { ...genotype }, loss, error: 0.1, price });
  const [best, close, far] = [of(0.5, 3), of(0.505, 2), of(0.9, 1)];
  expect(winner([far, best, close])).toBe(close.genotype);
  expect(winner([{ ...close, price: 4 }, best, far])).toBe(best.genotype);
});

it('stops with the best so far, cancels, pauses at a round, and keeps to a clock', async () => {
  const expected = digest(await run());
  let asked = 0;
  const stopped = await run({ wanted: () => (++asked > 6 ? 'stop' : 'run') });
  expect(stopped).toMatchObject({ stopReason: 'user_stopped', baseline: null });
  expect(stopped.search.evaluated).toBeLessThan(12);
  digest(stopped);
  await expect(run({ wanted: () => 'cancel' })).rejects.toMatchObject({ wanted: 'cancel' });
  asked = 0;
  let last: Uint8Array | undefined;
  const paused = await run({
    saved: (bytes) => (last = bytes),
    wanted: () => (++asked > 8 ? 'pause' : 'run'),
  }).catch((error: unknown) => error);
  expect(paused).toBeInstanceOf(Interrupted);
  expect(decodeCheckpoint(last!).state).toMatchObject({ phase: 'search' });
  expect(digest(await run({ from: last! }))).toBe(expected);
  // A clock on which every look costs a second.
  let seconds = 0;
  const cut = await run({ now: () => 1000 * ++seconds }, { budget: { max_seconds: 60 } });
  expect(cut.stopReason).toBe('budget_exhausted');
  expect(cut.search.evaluated).toBeGreaterThan(0);
  expect(cut.search.evaluated).toBeLessThan(48);
  digest(cut);
}, 120_000);

it.each(Object.keys(TASK_TARGETS))(
  '%s: the same bytes on one thread and on two',
  async (task) => {
    const given = TASK_TARGETS[task]!(target.data);
    const before = memory().tensors;
    const outcome = await run({}, { task }, given);
    if (task === 'age-estimation') {
      const { mae, constant_mae } = outcome.metrics as AgeMetrics;
      expect(mae).toBeLessThan(0.9 * constant_mae);
    }
    const expected = digest(outcome);
    expect(memory().tensors).toBe(before);
    expect(digest(await run({ threads: 1 }, { task }, given))).toBe(expected);
  },
  120_000,
);

it('writes a regression of years into the classifier: its expectation is the regression', () => {
  const task = taskFor('age-estimation');
  const rng = new Rng('years');
  const features = Float32Array.from({ length: 400 * 3 }, () => rng.normal());
  const labels = Float32Array.from(
    { length: 400 },
    (_, i) => 40 + 9 * features[3 * i]! - 4 * features[3 * i + 2]!,
  );
  const images = { features, truth: { labels, guess: 40 } };
  const { classifier, choice } = chooseProbe(task, 101, images, images);
  expect(choice).toEqual({ penalty: 0.001, scale: 1 });
  const logits = Float32Array.from({ length: 400 * 101 }, (_, i) => {
    const [row, k] = [Math.floor(i / 101), i % 101];
    return [0, 1, 2].reduce(
      (sum, d) => sum + features[3 * row + d]! * classifier.weight[101 * d + k]!,
      classifier.bias[k]!,
    );
  });
  // The penalty shrinks a slope of 9 by a thousandth.
  expect((task.metrics(logits, images.truth) as AgeMetrics).mae).toBeLessThan(0.02);
});

it('weighs images of classes by their weight, and ridge finds what separates them', () => {
  const task = taskFor('gender-recognition');
  const labels = Float32Array.from({ length: 100 }, (_, i) => Number(i < 10));
  const features = Float32Array.from({ length: 100 }, () => 0); // nothing to go by but the classes' frequency
  const images = { features, truth: { labels } };
  const bias = (classWeights?: number[]) => [
    ...fitProbe(
      task,
      2,
      { ...images, truth: { labels, ...(classWeights && { classWeights }) } },
      { penalty: 1, scale: 1 },
    ).bias,
  ];
  expect(bias()).toEqual([expect.closeTo(0.9, 6), expect.closeTo(0.1, 6)]);
  expect(bias([100 / 180, 5])).toEqual([expect.closeTo(0.5, 6), expect.closeTo(0.5, 6)]);
});

it('respects constraints', async () => {
  const cheap = await run({}, { constraints: { max_params: 3000 } });
  expect(cheap.params).toBeLessThanOrEqual(3000);
  expect(cheap.genotype).not.toEqual(largest(space));
  digest(cheap);
});
