import { createHash } from 'node:crypto';
import v8 from 'node:v8';
import type { ClassificationMetrics } from '@ntaa/contracts';
import { isOutOfMemory, memory, tf } from '@ntaa/engine';
import { canonical } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { Supernet, type NamedTensors } from '@ntaa/supernet';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ON_WASM, startTestEngine } from '../../../test/setup/engine.js';
import { adapt, type AdaptOutcome } from './adapt.js';
import { decodeCheckpoint, encodeCheckpoint, type State } from './checkpoint.js';
import { drawnTarget, TASK_TARGETS, TEST_SPACE as space, type DrawnTarget } from './fixtures.js';
import { Interrupted, type Ports } from './ports.js';
import type { TargetData } from './target-data.js';

let target: DrawnTarget;
let data: TargetData;
let source: NamedTensors;

beforeAll(async () => {
  await startTestEngine();
  target = drawnTarget();
  data = target.data;
  const net = Supernet.initialise(space, 2, new Rng('source'));
  source = net.tensors();
  net.dispose();
});
afterAll(() => target.close());

interface Surroundings {
  from?: Uint8Array;
  /** Told every checkpoint; throws to die there. */
  saved?: (bytes: Uint8Array, count: number) => void;
  wanted?: Ports['wanted'];
  threads?: number;
  halfBatch?: boolean;
}
const budget = { max_candidates: 10 };

function run(
  { from, saved, wanted, threads = 2, halfBatch = false }: Surroundings = {},
  extra: object = {},
  given: Partial<TargetData> = {},
): Promise<AdaptOutcome> {
  let count = 0;
  return adapt({
    request: { kind: 'adapt', task: 'classification', dataset: 'ds_test', seed: 1, budget, ...extra },
    startedAt: Date.now(),
    threads,
    halfBatch,
    data: { ...data, ...given },
    space,
    source,
    ports: {
      progress: () => undefined,
      events: () => undefined,
      candidates: () => undefined,
      wanted: wanted ?? (() => 'run'),
      now: () => Date.now(),
      checkpoint: {
        load: () => Promise.resolve(from ?? null),
        save: (bytes) => Promise.resolve(saved?.(bytes, ++count)),
      },
    },
  });
}

/** Digest of everything that is delivered; disposes the outcome. */
function digest(outcome: AdaptOutcome): string {
  const hash = createHash('sha256');
  for (const tensors of [outcome.net.tensors(), outcome.bn.tensors()])
    for (const [name, { data: values }] of tensors) hash.update(name).update(values);
  hash.update(JSON.stringify([outcome.metrics, outcome.baseline?.metrics, outcome.search]));
  hash.update(JSON.stringify([outcome.candidates, outcome.gain, outcome.curves]));
  outcome.net.dispose();
  outcome.bn.dispose();
  return hash.digest('hex');
}

it('learns, leaks nothing, and resumes from any checkpoint to the same bytes', async () => {
  const checkpoints: Uint8Array[] = [];
  const before = memory().tensors;
  const outcome = await run({ saved: (bytes) => checkpoints.push(bytes) });
  expect((outcome.metrics as ClassificationMetrics).top1).toBeGreaterThan(0.7);
  expect(outcome.stopReason).toBe('budget_exhausted');
  const { gain, curves } = outcome;
  expect(gain).toMatchObject({ metric: 'top1', images: 60 });
  expect(gain!.transferred_weights.chosen).toBeGreaterThan(gain!.source_weights.chosen!);
  // The usual one is kept or left, and it is told by how much; null: the search found no other.
  const kept = canonical(outcome.genotype) === canonical(gain!.reference.genotype);
  expect(gain!.choice?.taken ?? false).toBe(!kept);
  expect(outcome.candidates.filter(({ selected }) => selected)).toHaveLength(1);
  // The baseline makes all image passes that everything else made together.
  const passes = curves.loss.map(({ network, images }) => [network, images.at(-1)!] as const);
  const others = passes.filter(([network]) => network !== 'baseline');
  expect(passes.find(([network]) => network === 'baseline')![1]).toBe(
    others.reduce((sum, [, images]) => sum + images, 0),
  );
  const expected = digest(outcome);
  expect(memory().tensors).toBe(before);
  const phases = checkpoints.map((bytes) => decodeCheckpoint(bytes).state.phase);
  expect(new Set(phases)).toEqual(new Set(['transfer', 'search', 'finetune', 'baseline', 'evaluate']));
  for (const phase of new Set(phases)) {
    const resumed = await run({ from: checkpoints[phases.indexOf(phase)]! });
    expect(digest(resumed), `resumed into ${phase}`).toBe(expected);
  }
  // As an older version left it, which had finalists finetuned before it chose.
  const { state, weights } = decodeCheckpoint(checkpoints[phases.indexOf('finetune')]!);
  const older = { ...state, phase: 'race' as State['phase'], selected: null };
  expect(digest(await run({ from: encodeCheckpoint(older, weights) }))).toBe(expected);
}, 300_000);

it('gives the same bytes on one thread as on two', async () => {
  expect(digest(await run({ threads: 1 }))).toBe(digest(await run({ threads: 2 })));
}, 300_000);

it('pauses at a checkpoint and goes on as if nothing had been', async () => {
  const expected = digest(await run());
  let steps = 0;
  let last: Uint8Array | undefined;
  const wanted = (): 'run' | 'pause' => (++steps > 60 ? 'pause' : 'run');
  const paused = await run({ saved: (bytes) => (last = bytes), wanted }).catch((error: unknown) => error);
  expect(paused).toBeInstanceOf(Interrupted);
  expect(digest(await run({ from: last! }))).toBe(expected);
}, 300_000);

it('stops with the best so far, cancels without a result, and says when constraints cannot be met', async () => {
  let steps = 0;
  const stopped = await run({ wanted: () => (++steps > 30 ? 'stop' : 'run') });
  expect(stopped).toMatchObject({ stopReason: 'user_stopped', baseline: null });
  expect(stopped.gain!.source_weights).toEqual({ reference: null, chosen: null });
  digest(stopped);
  await expect(run({ wanted: () => 'cancel' })).rejects.toMatchObject({
    name: 'Interrupted',
    wanted: 'cancel',
  });
  await expect(run({}, { constraints: { max_latency_ms: 1e-9 } })).rejects.toMatchObject({
    code: 'constraint-infeasible',
  });
  await expect(run({}, { constraints: { max_macs: 10 } })).rejects.toMatchObject({
    code: 'constraint-infeasible',
  });
}, 300_000);

it.runIf(ON_WASM)(
  'runs out of memory as such, and goes on with half the batch when there is room again',
  async () => {
    const checkpoints: Uint8Array[] = [];
    digest(await run({ saved: (bytes) => checkpoints.push(bytes) }));
    const from = checkpoints[0]!;
    // A real heap that cannot grow any more, and is full but for a little.
    const { wasm } = tf.backend() as unknown as { wasm: { asm: { memory: WebAssembly.Memory } } };
    v8.setFlagsFromString(`--wasm-max-mem-pages=${wasm.asm.memory.buffer.byteLength / 65536}`);
    const ballast: tf.Tensor[] = [];
    for (let values = 2 ** 22; values >= 2 ** 10; values /= 2)
      for (;;)
        try {
          ballast.push(tf.zeros([values]));
        } catch {
          break;
        }
    const failure: unknown = await run({ from, threads: 1 }).catch((error: unknown) => error);
    v8.setFlagsFromString('--wasm-max-mem-pages=65536');
    tf.dispose(ballast);
    expect(isOutOfMemory(failure), String(failure)).toBe(true);
    expect(failure).toBeInstanceOf(RangeError);

    const later: Uint8Array[] = [];
    const outcome = await run({ from, halfBatch: true, saved: (bytes) => later.push(bytes) });
    expect((outcome.metrics as ClassificationMetrics).top1).toBeGreaterThan(0.7);
    digest(outcome);
    // The same images, in twice the steps.
    const [whole, half] = [checkpoints, later].map((all) =>
      all.map((bytes) => decodeCheckpoint(bytes).state).find(({ phase }) => phase === 'search')!,
    ) as [State, State];
    expect([whole.halved, half.halved]).toEqual([false, true]);
    expect(half.plan.batchSize).toEqual({ transfer: 16, finetune: 16 });
    expect(half.plan.transferSteps).toBe(2 * whole.plan.transferSteps);
    expect(half.plan.finetuneSteps).toBe(2 * whole.plan.finetuneSteps);
    expect(half.passes).toBe(whole.passes);
  },
  300_000,
);

it.each(Object.keys(TASK_TARGETS))(
  '%s: the same bytes on one thread, on two, resumed and paused',
  async (task) => {
    const given = TASK_TARGETS[task]!(data);
    const extra = { task, budget: { max_candidates: 3 }, baseline: false };
    const checkpoints: Uint8Array[] = [];
    const before = memory().tensors;
    let breaths = 0;
    const wanted = (): 'run' => (breaths++, 'run');
    const saved = (bytes: Uint8Array) => checkpoints.push(bytes);
    const expected = digest(await run({ saved, wanted }, extra, given));
    expect(memory().tensors).toBe(before);
    expect(digest(await run({ threads: 1 }, extra, given))).toBe(expected);
    const finetuning = checkpoints.find((bytes) => decodeCheckpoint(bytes).state.phase === 'finetune')!;
    expect(digest(await run({ from: finetuning }, extra, given))).toBe(expected);

    // Ten steps before the end of finetuning, where batch norms may have settled.
    let left = breaths - 10;
    const pausing = (): 'run' | 'pause' => (left-- > 0 ? 'run' : 'pause');
    await expect(run({ saved, wanted: pausing }, extra, given)).rejects.toThrow(Interrupted);
    const { state, weights } = decodeCheckpoint(checkpoints.at(-1)!);
    expect([state.phase, weights.has('net.bn')]).toEqual(['finetune', task === 'age-estimation']);
    expect(digest(await run({ from: checkpoints.at(-1)! }, extra, given))).toBe(expected);
  },
  120_000,
);
