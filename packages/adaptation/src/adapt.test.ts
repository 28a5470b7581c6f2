import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import v8 from 'node:v8';
import type { ClassificationMetrics, SearchSpace } from '@ntaa/contracts';
import { PackedImages } from '@ntaa/data';
import { isOutOfMemory, memory, tf } from '@ntaa/engine';
import { Rng } from '@ntaa/random';
import { Supernet, type NamedTensors } from '@ntaa/supernet';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ON_WASM, startTestEngine } from '../../../test/setup/engine.js';
import { adapt, type AdaptOutcome } from './adapt.js';
import { decodeCheckpoint, type State } from './checkpoint.js';
import { Interrupted, type Ports } from './ports.js';
import type { TargetData } from './target-data.js';

const SIDE = 16;
const blocks = [1, 2].map(() => ({ kernels: [3, 5], expands: [2, 3] }));
const space: SearchSpace = {
  name: 'test',
  resolutions: [SIDE],
  stem: { width: 8, stride: 2, activation: 'relu' },
  stages: [8, 16].map((width) => ({ width, stride: 2, activation: 'relu', minDepth: 1, blocks })),
  head: { width: 24, activation: 'relu' },
};
let scratch: string;
let data: TargetData;
let source: NamedTensors;

/** Stripes across, stripes along, or a checkerboard, with noise. */
function draw(kind: number, rng: Rng): Uint8Array {
  const phase = rng.int(4);
  return Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => {
    const [x, y] = [Math.floor(i / 3) % SIDE, Math.floor(i / 3 / SIDE)];
    const on = [(x + phase) & 2, (y + phase) & 2, ((x + phase) & 2) ^ ((y + phase) & 2)][kind]!;
    return Math.max(0, Math.min(255, (on ? 170 : 90) + 45 * rng.normal()));
  });
}

beforeAll(async () => {
  await startTestEngine();
  scratch = mkdtempSync(join(tmpdir(), 'ntaa-adapt-'));
  const n = 240;
  const labelOf = Float32Array.from({ length: n }, (_, i) => i % 3);
  const file = join(scratch, 'packed.bin');
  writeFileSync(file, Buffer.concat([...labelOf].map((label, i) => draw(label, new Rng('stripes', i)))));
  const all = Array.from({ length: n }, (_, i) => i);
  data = {
    labels: ['across', 'along', 'checks'],
    labelOf,
    splits: { train: all.slice(0, 120), validation: all.slice(120, 180), test: all.slice(180) },
    packs: new Map([[SIDE, new PackedImages(file, n, SIDE, SIDE)]]),
    preprocessing: {
      channels: 'RGB',
      fit: 'contain',
      kernel: 'lanczos3',
      background: { r: 255, g: 255, b: 255 },
      scale: 1 / 255,
      mean: [0.5, 0.5, 0.5],
      std: [0.25, 0.25, 0.25],
    },
    policy: { flip: false, rotate: 0, scale: 0, translate: 0.1, color: 0.1, erase: 0, fill: 'edge' },
  };
  const net = Supernet.initialise(space, 2, new Rng('source'));
  source = net.tensors();
  net.dispose();
});
afterAll(() => {
  for (const packed of data.packs.values()) packed.close();
  rmSync(scratch, { recursive: true, force: true });
});

interface Surroundings {
  from?: Uint8Array;
  /** Told every checkpoint; throws to die there. */
  saved?: (bytes: Uint8Array, count: number) => void;
  wanted?: Ports['wanted'];
  threads?: number;
  halfBatch?: boolean;
}
const budget = { max_candidates: 6 };

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
  expect(new Set(phases)).toEqual(
    new Set(['transfer', 'search', 'race', 'finetune', 'baseline', 'evaluate']),
  );
  for (const phase of new Set(phases)) {
    const resumed = await run({ from: checkpoints[phases.indexOf(phase)]! });
    expect(digest(resumed), `resumed into ${phase}`).toBe(expected);
  }
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

/** The same images for another task: 24 identities by two cameras; years; a source of 90 images and a target of 150. */
const other: Record<string, () => Partial<TargetData>> = {
  're-identification': () => ({
    labels: Array.from({ length: 18 }, (_, k) => `p${k}`),
    labelOf: Float32Array.from({ length: 240 }, (_, i) => Math.floor(i / 10)),
    cameraOf: Int32Array.from({ length: 240 }, (_, i) => i % 2),
    roleOf: new Uint8Array(240),
  }),
  'age-estimation': () => ({
    labels: [],
    labelOf: data.labelOf.map((label) => 10 + 30 * label),
    guess: 40,
  }),
  'domain-adaptation': () => {
    const all = Array.from({ length: 240 }, (_, i) => i);
    return {
      labelOf: data.labelOf.map((label, i) => (i < 90 ? label : NaN)),
      unlabelled: Uint8Array.from(all, (i) => Number(i >= 90)),
      splits: {
        train: all.filter((i) => i % 5 < 3),
        validation: all.filter((i) => i % 5 === 3),
        test: all.filter((i) => i % 5 === 4 && i >= 90),
      },
    };
  },
};

it.each(Object.keys(other))(
  '%s: the same bytes on one thread, on two, and resumed',
  async (task) => {
    const given = other[task]!();
    const extra = { task, budget: { max_candidates: 3 }, baseline: false };
    const checkpoints: Uint8Array[] = [];
    const before = memory().tensors;
    const expected = digest(await run({ saved: (bytes) => checkpoints.push(bytes) }, extra, given));
    expect(memory().tensors).toBe(before);
    expect(digest(await run({ threads: 1 }, extra, given))).toBe(expected);
    const finetuning = checkpoints.find((bytes) => decodeCheckpoint(bytes).state.phase === 'finetune')!;
    expect(digest(await run({ from: finetuning }, extra, given))).toBe(expected);
  },
  120_000,
);
