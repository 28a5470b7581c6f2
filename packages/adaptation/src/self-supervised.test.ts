import type { ClassificationMetrics, ReidMetrics } from '@ntaa/contracts';
import { memory } from '@ntaa/engine';
import { Rng } from '@ntaa/random';
import { Supernet, type NamedTensors } from '@ntaa/supernet';
import { taskFor } from '@ntaa/tasks';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startTestEngine } from '../../../test/setup/engine.js';
import { adapt } from './adapt.js';
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
  const { augmentation } = taskFor('self-supervised');
  const policy = { ...target.data.policy, ...augmentation };
  const data = { ...target.data, labels: [], labelOf, policy };
  return pretrain({
    ...{ data, space, seed: 3, startedAt: 0, budget: { max_epochs }, ports, paradigm: 'self-supervised' },
  });
}

/** Test accuracy of probes on frozen features. */
async function probed(source: NamedTensors): Promise<number> {
  const outcome = await adapt({
    request: {
      ...{ kind: 'adapt', task: 'classification', dataset: 'ds_test', seed: 1, baseline: false },
      ...{ paradigm: 'linear-evaluation', budget: { max_candidates: 6 } },
    },
    ...{ startedAt: Date.now(), data: target.data, space, source, ports: portsOf() },
  });
  outcome.net.dispose();
  outcome.bn.dispose();
  return (outcome.metrics as ClassificationMetrics).top1;
}

it('learns without labels what helps to tell classes apart', async () => {
  const nothing = new Float32Array(240).fill(NaN);
  const before = memory().tensors;
  const { tensors, subnets } = await blind(portsOf(), 60, nothing);
  expect(memory().tensors).toBe(before);
  expect([...tensors.keys()].filter((name) => name.startsWith('classifier'))).toEqual([]);
  const { rank1, queries } = subnets[0]!.metrics as ReidMetrics;
  expect(rank1).toBeGreaterThan(5 / queries);
  const net = Supernet.initialise(space, 2, new Rng('random'));
  const random = net.tensors();
  net.dispose();
  expect(await probed(tensors)).toBeGreaterThan((await probed(random)) + 0.1);
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
  const whole = of(await blind(portsOf(undefined, saved, now), 3, target.data.labelOf as Float32Array));
  const from = checkpoints[checkpoints.length >> 1]!;
  const resumed = of(await blind(portsOf(from), 3, new Float32Array(240).fill(NaN)));
  expect(resumed.equals(whole)).toBe(true);
}, 120_000);
