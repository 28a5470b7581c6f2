/** What a job works on: its images, and the supernet that it begins with. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  aspectFor,
  prepareDomains,
  prepareTarget,
  usefulResolutions,
  type TargetData,
} from '@ntaa/adaptation';
import type { SearchSpace } from '@ntaa/contracts';
import { JobError } from '@ntaa/contracts';
import type { DatasetIndex } from '@ntaa/data';
import { builtinSupernet, readSafetensors, type NamedTensors } from '@ntaa/supernet';
import type { Task } from '@ntaa/tasks';
import type { AssignedDataset, JobAssignment } from './protocol.js';
import type { WorkStore } from './work-store.js';

export interface LoadedSupernet {
  id: string;
  sha256: string;
  space: SearchSpace;
  tensors: NamedTensors;
}

export async function loadSupernet(
  { supernet }: Pick<JobAssignment, 'supernet'>,
  store: WorkStore,
): Promise<LoadedSupernet> {
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
  { folder, space, task }: { folder: string; space: SearchSpace; task: Task['name'] },
) {
  await mkdir(folder, { recursive: true });
  const indexFile = join(folder, 'index.json');
  await store.fetch(pack.index.key, indexFile, pack.index.sha256);
  const index = JSON.parse(readFileSync(indexFile, 'utf8')) as DatasetIndex;
  const packed = new Map<number, string>();
  // Sets are decoded in advance for square inputs.
  const square = aspectFor(task, index) === 1;
  for (const resolution of square ? usefulResolutions(space, index) : []) {
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

/** The images a job works on, in folders of its scratch. */
export interface Fetched {
  data: TargetData & { close(): void };
  /** See AdaptInput. */
  heldOut?: Float32Array;
  /** Of the test split, in its order. */
  testPaths: readonly string[];
}

/** Fetches and prepares them: the same in every process that is told of the same job. */
export async function fetchData(
  {
    scratch,
    request,
    dataset,
    sourceDataset,
  }: Pick<JobAssignment, 'scratch' | 'request' | 'dataset' | 'sourceDataset'>,
  store: WorkStore,
  space: SearchSpace,
  onProgress: (fraction: number, message: string) => void,
): Promise<Fetched> {
  onProgress(0, 'fetching the images');
  const blind = request.kind === 'pretrain' && request.paradigm === 'self-supervised';
  const task = request.kind === 'adapt' ? request.task : blind ? 'self-supervised' : 'classification';
  const common = { seed: request.seed ?? 0, space, scratch, onProgress };
  const fetch = (from: AssignedDataset, folder: string) =>
    fetchDataset(from, store, { folder: join(scratch, folder), space, task });
  const target = await fetch(dataset, 'target');
  if (sourceDataset) {
    const source = await fetch(sourceDataset, 'source');
    const { heldOut, testPaths, ...data } = await prepareDomains({ ...common, source, target });
    return { data, heldOut, testPaths };
  }
  const data = await prepareTarget({ ...common, ...target, task });
  return { data, testPaths: data.splits.test.map((i) => target.index.samples[i]!.path) };
}
