/**
 * Two datasets as one: a labelled source, then an unlabelled target. Nothing here depends on the target's labels: its
 * images are ordered by the hash of their bytes (paths may name classes) and split by it alone.
 */
import { mkdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { channelStatistics, PackedImages, splitDataset, type Sample } from '@ntaa/data';
import { taskFor } from '@ntaa/tasks';
import {
  GEOMETRY,
  openPacks,
  policyOf,
  splitFor,
  usefulResolutions,
  type Prepared,
  type PrepareInput,
} from './prepare.js';

type DomainInput = Pick<PrepareInput, 'images' | 'index' | 'packed'>;
interface PrepareDomainsInput extends Pick<PrepareInput, 'seed' | 'space' | 'scratch' | 'onProgress'> {
  source: DomainInput;
  target: DomainInput;
}

interface PreparedDomains extends Prepared {
  /** Class numbers of the target's test images, in the order of the split; -1 where none is known. For the very end. */
  heldOut: Float32Array;
  /** Paths of the target's test images. */
  testPaths: string[];
}

const SHARES = { validation: 0.2, test: 0.2 };

/** Close it when done. @throws JobError when there is too little of either. */
export async function prepareDomains(input: PrepareDomainsInput): Promise<PreparedDomains> {
  const { source, target, seed } = input;
  const task = taskFor('domain-adaptation');
  const shares = { ...SHARES, test: 0 };
  const known = splitFor(task, source.index, seed, shares);
  const first = source.index.samples.length;
  const order = target.index.samples.map((_, i) => i).sort(byHash(target.index.samples));
  const blind = order.map((i) => blindfolded(target.index.samples[i]!));
  const own = splitDataset(blind, seed, SHARES);
  const at = (positions: readonly number[]): number[] => positions.map((i) => first + i);
  // A test split that the source names is not needed as one.
  const splits = {
    train: [...known.train, ...known.test, ...at(own.train)].sort((a, b) => a - b),
    validation: [...known.validation, ...at(own.validation)],
    test: at(own.test),
  };
  const { labels, labelOf } = task.targets(source.index.samples, source.index.labels, known);
  const all = new Float32Array(first + order.length).fill(NaN);
  all.set(labelOf);
  const packs = await joined(input, order);
  const { mean, std } = channelStatistics([...packs.values()].at(-1)!, splits.train);
  const classOf = new Map(labels.map((name, k) => [name, k]));
  const truth = (i: number): number => {
    const { label } = target.index.samples[order[i]!]!;
    return classOf.get(target.index.labels[label] ?? '') ?? -1;
  };
  return {
    labels,
    labelOf: all,
    unlabelled: Uint8Array.from(all, (_, i) => (i < first ? 0 : 1)),
    splits,
    packs,
    preprocessing: { channels: 'RGB', ...GEOMETRY, scale: 1 / 255, mean, std },
    policy: policyOf(task),
    heldOut: Float32Array.from(own.test, truth),
    testPaths: own.test.map((i) => target.index.samples[order[i]!]!.path),
    close: () => packs.forEach((packed) => packed.close()),
  };
}

const byHash = (samples: readonly Sample[]) => (a: number, b: number) => {
  const [one, other] = [samples[a]!.sha1, samples[b]!.sha1];
  return one < other ? -1 : one > other ? 1 : 0;
};

/** What may be known of a target's image: its bytes, and the split that it was given. */
const blindfolded = ({ sha1, split }: Sample) => ({ path: sha1, label: 0, sha1, split });

/** At every resolution one file: the source's images, then the target's in their order. */
async function joined(
  input: PrepareDomainsInput,
  order: readonly number[],
): Promise<Map<number, PackedImages>> {
  const { source, target, space, scratch } = input;
  const wanted = usefulResolutions(space, target.index);
  const opened = await Promise.all(
    [source, target].map((domain, i) => {
      const folder = join(scratch, `domain-${i}`);
      mkdirSync(folder, { recursive: true });
      const { onProgress } = input;
      return openPacks({ ...domain, scratch: folder, ...(onProgress && { onProgress }) }, wanted);
    }),
  );
  const result = new Map<number, PackedImages>();
  const count = source.index.samples.length + order.length;
  for (const resolution of wanted) {
    const [sources, targets] = opened.map((packs) => packs.get(resolution)!) as [PackedImages, PackedImages];
    const file = join(scratch, `joined-${resolution}.bin`);
    const out = await open(file, 'w');
    const pixels = new Uint8Array(sources.stride);
    const append = async (packed: PackedImages, index: number): Promise<void> => {
      packed.read(index, pixels);
      await out.writeFile(pixels);
    };
    for (let i = 0; i < sources.count; i++) await append(sources, i);
    for (const i of order) await append(targets, i);
    await out.close();
    sources.close();
    targets.close();
    result.set(resolution, new PackedImages(file, count, resolution, resolution));
  }
  return result;
}
