import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { adapt, Interrupted, pretrain, type Ports } from '@ntaa/adaptation';
import { killPoint } from '@ntaa/config';
import type { SearchSpace } from '@ntaa/contracts';
import { JobError } from '@ntaa/contracts';
import { heldBytes, initEngine, type EngineInfo } from '@ntaa/engine';
import { inputSize, taskSpace, tinySpace } from '@ntaa/nas';
import { ObjectMissing } from '@ntaa/storage';
import { elsewhere } from './elsewhere.js';
import { fetchData, loadSupernet, type Fetched } from './fetch-data.js';
import { publishModel } from './publish-model.js';
import { publishSupernet } from './publish-supernet.js';
import type { JobLink } from './link.js';
import type { JobAssignment } from './protocol.js';
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
  const { data, heldOut } = await fetched(assignment, link, store, supernet.space);
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
      threads: assignment.threads,
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
          input: inputSize(taskSpace(request.task, supernet.space, data.aspect), outcome.genotype),
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
  const { data } = await fetched(assignment, link, store, tinySpace);
  try {
    const outcome = await pretrain({
      data,
      space: tinySpace,
      seed: request.seed ?? 0,
      startedAt: Date.parse(assignment.startedAt),
      budget: request.budget ?? {},
      paradigm: request.paradigm ?? 'supervised',
      halfBatch: assignment.halfBatch,
      threads: assignment.threads,
      ports: makePorts(assignment, link, store),
    });
    link.progress('export', { fraction: 0.99, eta_seconds: 1, message: 'writing the supernet' });
    const { supernet, result } = await publishSupernet({ assignment, request, outcome, data, engine, store });
    await link.done({ status: 'succeeded', success: { supernet, stopReason: outcome.stopReason, result } });
  } finally {
    data.close();
  }
}

/** The job's images, with word of it. */
async function fetched(
  assignment: JobAssignment,
  link: JobLink,
  store: WorkStore,
  space: SearchSpace,
): Promise<Fetched> {
  const found = await fetchData(assignment, store, space, (fraction, message) =>
    link.progress('prepare', { fraction: 0.03 * fraction, eta_seconds: null, message }),
  );
  if (assignment.checkpoints.length === 0) announceSplit(link, found);
  return found;
}

function announceSplit(link: JobLink, { data, testPaths }: Fetched): void {
  const { train, validation, test } = data.splits;
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
    elsewhere: elsewhere(assignment, link, store),
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
