import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  adapt,
  Interrupted,
  prepareDomains,
  prepareTarget,
  pretrain,
  usefulResolutions,
  type Ports,
  type TargetData,
} from '@ntaa/adaptation';
import type { SearchSpace } from '@ntaa/contracts';
import { killPoint } from '@ntaa/config';
import { JobError } from '@ntaa/contracts';
import type { DatasetIndex } from '@ntaa/data';
import { heldBytes, initEngine, type EngineInfo } from '@ntaa/engine';
import { tinySpace } from '@ntaa/nas';
import { ObjectMissing } from '@ntaa/storage';
import { builtinSupernet, readSafetensors, type NamedTensors } from '@ntaa/supernet';
import { publishModel } from './publish-model.js';
import { publishSupernet } from './publish-supernet.js';
import type { JobLink } from './link.js';
import type { AssignedDataset, JobAssignment } from './protocol.js';
import { WorkStore } from './work-store.js';

const CHECKPOINT = 'state';

/** Works on one attempt of a job in this process, from fetching its images to handing in the model. */
export async function runJob(assignment: JobAssignment, link: JobLink): Promise<void> {
  const store = await WorkStore.open(assignment.store);
  try {
    const engine = await initEngine(assignment.engine);
    if (assignment.attempt === 1)
      link.events([{ type: 'log', data: { engine: engine.name, reason: engine.reason } }]);
    if (assignment.request.kind === 'adapt') await runAdapt(assignment, link, store, engine);
    else await runPretrain(assignment, link, store, engine);
  } catch (error) {
    // An object that the database knows of is gone for now, or for good: the tries are counted.
    if (error instanceof ObjectMissing) throw new JobError('storage-unavailable', error.message);
    if (!(error instanceof Interrupted)) throw error;
    await link.done({ status: error.wanted === 'cancel' ? 'cancelled' : 'paused' });
  } finally {
    await store.close();
  }
}

async function runAdapt(
  assignment: JobAssignment,
  link: JobLink,
  store: WorkStore,
  engine: EngineInfo,
): Promise<void> {
  const { request, scratch } = assignment;
  if (request.kind !== 'adapt') throw new Error('not an adapt job');
  const supernet = await loadSupernet(assignment, store);
  const { data, heldOut } = await fetchData(assignment, link, store, supernet.space);
  try {
    const startedAt = Date.parse(assignment.startedAt);
    const ports = makePorts(assignment, link, store);
    const outcome = await adapt({
      request,
      startedAt,
      data,
      heldOut,
      space: supernet.space,
      source: supernet.tensors,
      ports,
      halfBatch: assignment.halfBatch,
    });
    link.progress('export', {
      fraction: 0.99,
      eta_seconds: 1,
      message: 'writing ONNX, TF.js and safetensors',
    });
    const out = join(scratch, 'model');
    await mkdir(out);
    const model = await publishModel({
      assignment,
      request,
      outcome,
      data,
      engine,
      supernet,
      store,
      out,
    });
    killPoint('trainer.model-stored');
    const { metrics, macs, params, baseline, largest, search, seconds, gain, curves } = outcome;
    await link.done({
      status: 'succeeded',
      success: {
        model,
        stopReason: outcome.stopReason,
        result: {
          model: model.id as `mdl_${string}`,
          metrics,
          macs,
          params,
          ...(baseline && { baseline }),
          ...(largest && { largest }),
          search,
          seconds: { ...seconds, total: (Date.now() - startedAt) / 1000 },
          ...(gain && { gain }),
          curves,
        },
      },
    });
  } finally {
    data.close();
  }
}

async function runPretrain(
  assignment: JobAssignment,
  link: JobLink,
  store: WorkStore,
  engine: EngineInfo,
): Promise<void> {
  const { request } = assignment;
  if (request.kind !== 'pretrain') throw new Error('not a pretrain job');
  const { data } = await fetchData(assignment, link, store, tinySpace);
  try {
    const outcome = await pretrain({
      data,
      space: tinySpace,
      seed: request.seed ?? 0,
      startedAt: Date.parse(assignment.startedAt),
      budget: request.budget ?? {},
      paradigm: request.paradigm ?? 'supervised',
      halfBatch: assignment.halfBatch,
      ports: makePorts(assignment, link, store),
    });
    link.progress('export', { fraction: 0.99, eta_seconds: 1, message: 'writing the supernet' });
    const { supernet, result } = await publishSupernet({ assignment, request, outcome, data, engine, store });
    await link.done({ status: 'succeeded', success: { supernet, stopReason: outcome.stopReason, result } });
  } finally {
    data.close();
  }
}

export interface LoadedSupernet {
  id: string;
  sha256: string;
  space: SearchSpace;
  tensors: NamedTensors;
}

async function loadSupernet({ supernet }: JobAssignment, store: WorkStore): Promise<LoadedSupernet> {
  if (!supernet) throw new JobError('internal', 'The job names no supernet');
  if (supernet.key === null) {
    const { card, tensors, sha256 } = builtinSupernet();
    return { id: supernet.id, sha256, space: card.space, tensors };
  }
  const bytes = await store.read(supernet.key);
  if (createHash('sha256').update(bytes).digest('hex') !== supernet.sha256)
    throw new JobError('storage-unavailable', `The stored weights of supernet ${supernet.id} are damaged`);
  return {
    id: supernet.id,
    sha256: supernet.sha256,
    space: supernet.search_space,
    tensors: readSafetensors(bytes).tensors,
  };
}

/** A dataset fetched into a folder of its own: its index, and its images and packs where they are wanted. */
async function fetchDataset(
  { pack }: AssignedDataset,
  store: WorkStore,
  { folder, space }: { folder: string; space: SearchSpace },
) {
  await mkdir(folder, { recursive: true });
  const indexFile = join(folder, 'index.json');
  await store.fetch(pack.index.key, indexFile, pack.index.sha256);
  const index = JSON.parse(readFileSync(indexFile, 'utf8')) as DatasetIndex;
  const packed = new Map<number, string>();
  for (const resolution of usefulResolutions(space, index)) {
    const ref = pack.packed[resolution];
    if (!ref) continue;
    packed.set(resolution, join(folder, `fetched-${resolution}.bin`));
    await store.fetch(ref.key, packed.get(resolution)!, ref.sha256);
  }
  let fetched: Promise<string> | undefined;
  const encoded = join(folder, 'images.bin');
  const images = () =>
    (fetched ??= store.fetch(pack.images.key, encoded, pack.images.sha256).then(() => encoded));
  return { images, index, packed };
}

interface Fetched {
  data: TargetData & { close(): void };
  /** See AdaptInput. */
  heldOut?: Float32Array;
}

async function fetchData(
  assignment: JobAssignment,
  link: JobLink,
  store: WorkStore,
  space: SearchSpace,
): Promise<Fetched> {
  const { scratch, request, sourceDataset } = assignment;
  const onProgress = (fraction: number, message: string): void =>
    link.progress('prepare', { fraction: 0.03 * fraction, eta_seconds: null, message });
  onProgress(0, 'fetching the images');
  const common = { seed: request.seed ?? 0, space, scratch, onProgress };
  const fetch = (dataset: AssignedDataset, folder: string) =>
    fetchDataset(dataset, store, { folder: join(scratch, folder), space });
  const target = await fetch(assignment.dataset, 'target');
  if (sourceDataset) {
    const source = await fetch(sourceDataset, 'source');
    const { heldOut, testPaths, ...data } = await prepareDomains({ ...common, source, target });
    announceSplit(assignment, link, data, testPaths);
    return { data, heldOut };
  }
  const blind = request.kind === 'pretrain' && request.paradigm === 'self-supervised';
  const task = request.kind === 'adapt' ? request.task : blind ? 'self-supervised' : 'classification';
  const data = await prepareTarget({ ...common, ...target, task });
  announceSplit(
    assignment,
    link,
    data,
    data.splits.test.map((i) => target.index.samples[i]!.path),
  );
  return { data };
}

function announceSplit(
  assignment: JobAssignment,
  link: JobLink,
  { splits: { train, validation, test } }: TargetData,
  testPaths: readonly string[],
): void {
  if (assignment.checkpoints.length > 0) return;
  const sizes = { train: train.length, validation: validation.length, test: test.length };
  // Lists of a very large split would be longer than everything else about the job together.
  link.events([{ type: 'split', data: { ...sizes, test_paths: testPaths.slice(0, 5000) } }]);
}

function makePorts(assignment: JobAssignment, link: JobLink, store: WorkStore): Ports {
  let serial = 0;
  return {
    progress: (stage, progress) => link.progress(stage, { ...progress, memory_bytes: heldBytes() }),
    events: (events) => link.events(events),
    candidates: (records) => link.candidates(records),
    wanted: () => link.wanted(),
    now: () => Date.now(),
    checkpoint: {
      async load() {
        const last = assignment.checkpoints.find((checkpoint) => checkpoint.name === CHECKPOINT);
        return last ? store.read(last.key) : null;
      },
      // The object is complete in the store before the database points at it; the one it replaces is deleted after.
      async save(bytes) {
        serial += 1;
        const key = `jobs/${assignment.jobId}/checkpoints/${assignment.attempt}-${serial}.safetensors`;
        const { sha256, size } = await store.put(key, bytes);
        killPoint('trainer.checkpoint-stored');
        await link.checkpoint({ name: CHECKPOINT, key, sha256, size, data: {} });
      },
    },
  };
}
