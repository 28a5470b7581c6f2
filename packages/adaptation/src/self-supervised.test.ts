import { memory } from '@ntaa/engine';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startTestEngine } from '../../../test/setup/engine.js';
import { drawnTarget, TEST_SPACE as space, type DrawnTarget } from './fixtures.js';
import type { Ports } from './ports.js';
import { pretrain, type PretrainOutcome } from './pretrain.js';

let target: DrawnTarget;
beforeAll(async () => {
  await startTestEngine();
  target = drawnTarget();
});
afterAll(() => target.close());

function portsOf(from?: Uint8Array, saved?: (bytes: Uint8Array) => void, now = Date.now): Ports {
  return {
    progress: () => undefined,
    events: () => undefined,
    candidates: () => undefined,
    wanted: () => 'run',
    now,
    checkpoint: {
      load: () => Promise.resolve(from ?? null),
      save: (bytes) => Promise.resolve(saved?.(bytes)),
    },
  };
}

function blind(ports: Ports, max_epochs: number, labelOf: Float32Array): Promise<PretrainOutcome> {
  // Under mild views: of these drawings, mostly noise, strong ones leave nothing that a few steps could find.
  const data = { ...target.data, labels: [], labelOf };
  return pretrain({
    ...{ data, space, seed: 3, startedAt: 0, budget: { max_epochs }, ports, paradigm: 'self-supervised' },
  });
}

it('learns to find the other view, leaks nothing, and leaves no projector', async () => {
  const losses: number[] = [];
  const warnings: unknown[] = [];
  // Progress is told twice a second: by this clock after every step.
  let looks = 0;
  const ports: Ports = {
    ...portsOf(undefined, undefined, () => 600 * ++looks),
    events: (events) => warnings.push(...events),
    progress: (stage, { message }) => {
      if (stage === 'pretrain') losses.push(Number(/loss (.*)/.exec(message)?.[1] ?? NaN));
    },
  };
  const before = memory().tensors;
  const { tensors, subnets } = await blind(ports, 50, new Float32Array(240).fill(NaN));
  expect(memory().tensors).toBe(before);
  expect([...tensors.keys()].filter((name) => name.startsWith('classifier'))).toEqual([]);
  // At first nothing tells the 58 others of a half batch from the right one.
  const told = losses.filter((loss) => !Number.isNaN(loss));
  expect(told[2]).toBeGreaterThan(Math.log(58) - 0.3);
  const last = told.slice(-10);
  expect(last.reduce((sum, loss) => sum + loss, 0) / last.length).toBeLessThan(3.7);
  expect(warnings).toEqual([]);
  expect(subnets[0]!.metrics).toMatchObject({ protocol: 'all-to-all', queries: 120, identities: 60 });
}, 120_000);

it('reads no label, and resumes to the same bytes', async () => {
  const checkpoints: Uint8Array[] = [];
  let hours = 0;
  const now = () => 3_600_000 * ++hours;
  const of = ({ tensors }: PretrainOutcome) =>
    Buffer.concat(
      [...tensors.values()].map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength)),
    );
  const saved = (bytes: Uint8Array) => checkpoints.push(bytes);
  const whole = of(await blind(portsOf(undefined, saved, now), 3, target.data.labelOf));
  const from = checkpoints[checkpoints.length >> 1]!;
  const resumed = of(await blind(portsOf(from), 3, new Float32Array(240).fill(NaN)));
  expect(resumed.equals(whole)).toBe(true);
}, 120_000);
