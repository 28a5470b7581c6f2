import { JobError, type ReidMetrics } from '@ntaa/contracts';
import type { Sample, Splits } from '@ntaa/data';
import { meanInterval, meanOf, wilsonInterval } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import { oneHot, smoothed } from './classes.js';
import { rankGallery, unitRows, type Ranking } from './reid-protocol.js';
import { crossEntropy } from './softmax.js';
import type { SamplerInput, Task, Truth } from './task.js';
import { batchHardTriplet } from './triplet.js';

const MARGIN = 0.3;
/** Images of an identity in a batch; where most identities have fewer, half as many: repeats teach little. */
const K = 4;
const ROLES = { query: 1, gallery: 2 } as const;

/**
 * Label-smoothed cross-entropy over the training identities behind a batch-norm neck, and batch-hard triplets of the
 * features before it (Luo et al., Bag of Tricks, CVPRW 2019). Answers are the features behind the neck, compared by
 * cosine. Fitness: mean average precision on identities that were not trained on.
 */
export const reIdentification = {
  name: 're-identification',
  output: 'embedding',
  delivery: 'embedding',
  reads: 'features',
  augmentation: { flip: true, erase: 0.5 },

  // Identities are kept together by the split itself; there is nothing else to be stratified by.
  stratum: ({ identity, camera }) => (identity === undefined || camera === undefined ? null : 0),

  targets(samples, _, splits) {
    const names = (indices: readonly number[]) =>
      [...new Set(indices.map((i) => samples[i]!.identity!))].sort();
    const trained = names([...splits.train, ...splits.validation]);
    // Those of the test follow: the head knows nothing of them.
    const known = new Set(trained);
    const all = [...trained, ...names(splits.test).filter((name) => !known.has(name))];
    const number = new Map(all.map((name, i) => [name, i]));
    const cameras = [...new Set(samples.flatMap(({ camera }) => camera ?? []))].sort();
    const targets = {
      labels: trained,
      labelOf: Float32Array.from(samples, ({ identity }) => number.get(identity ?? '') ?? NaN),
      cameraOf: Int32Array.from(samples, ({ camera }) => cameras.indexOf(camera ?? '')),
      roleOf: Uint8Array.from(samples, ({ role }) => (role ? ROLES[role] : 0)),
    };
    requireProtocol(samples, splits, known);
    return targets;
  },

  sampler: identityBatches,
  headTarget: oneHot,

  objective({ labels, outputs }) {
    const targets = smoothed(labels, outputs);
    return ({ logits, features }) => {
      const classes = crossEntropy(logits, targets, outputs);
      const triplets = batchHardTriplet(features, labels, MARGIN);
      return {
        loss: classes.loss + triplets.loss,
        logits: classes.gradient,
        features: triplets.gradient,
      };
    };
  },

  judge(predictions, truth) {
    const { precisions, places } = rank(predictions, truth);
    const map = meanOf(precisions);
    const rank1 = places.filter((place) => place < 1).length / places.length;
    return { losses: precisions.map((value) => -value), quality: map, summary: { map, rank1 } };
  },

  metrics(predictions, truth): ReidMetrics {
    const { precisions, places, skipped, gallery, protocol } = rank(predictions, truth);
    const within = (rank: number) => places.filter((place) => place < rank).length;
    const queries = places.length;
    return {
      map: meanOf(precisions),
      map_interval: meanInterval(precisions).map((value) => Math.max(0, Math.min(1, value))) as [
        number,
        number,
      ],
      rank1: within(1) / queries,
      rank1_interval: wilsonInterval(within(1), queries),
      rank5: within(5) / queries,
      rank10: within(10) / queries,
      queries,
      skipped_queries: skipped,
      gallery,
      identities: new Set(truth.labels).size,
      protocol,
      images: truth.labels.length,
    };
  },
} satisfies Task;

function rank(features: Float32Array, { labels, cameras, roles }: Truth): Ranking {
  const width = features.length / labels.length;
  return rankGallery({
    embeddings: unitRows(features, width),
    identities: labels,
    cameras: cameras!,
    roles,
  });
}

/** Says of splits that cannot be trained on or judged what they lack. */
function requireProtocol(samples: readonly Sample[], splits: Splits, trained: ReadonlySet<string>): void {
  const refuse = (why: string): never => {
    throw new JobError('reid-protocol', why);
  };
  const shared = splits.test.find(
    (i) => trained.has(samples[i]!.identity!) && samples[i]!.identity !== '0000',
  );
  if (shared !== undefined)
    refuse(`identity ${samples[shared]!.identity} is both in training and in test: they must differ`);
  if (new Set(splits.train.map((i) => samples[i]!.identity)).size < 2)
    refuse('training needs images of at least two identities');
  for (const name of ['validation', 'test'] as const) {
    const indices = splits[name];
    const { precisions } = rankGallery({
      embeddings: new Float32Array(indices.length),
      identities: labelNumbers(indices.map((i) => samples[i]!.identity!)),
      cameras: labelNumbers(indices.map((i) => samples[i]!.camera!)),
      roles: indices.map((i) => (samples[i]!.role ? ROLES[samples[i]!.role] : 0)),
    });
    if (precisions.length === 0)
      refuse(
        `no image of the ${name} split can be found again: none of its ${indices.length} images has another ` +
          'of the same identity by another camera',
      );
  }
}

function labelNumbers(names: readonly string[]): number[] {
  const known = new Map<string, number>();
  return names.map((name) => known.get(name) ?? (known.set(name, known.size), known.size - 1));
}

/** P identities of K images each, from as many cameras as they have; all identities once before any comes again. */
function identityBatches({ indices, targets, batchSize, path }: SamplerInput) {
  const byIdentity = new Map<number, number[]>();
  for (const i of indices) {
    const identity = targets.labelOf[i]!;
    byIdentity.set(identity, [...(byIdentity.get(identity) ?? []), i]);
  }
  const identities = [...byIdentity.keys()].sort((a, b) => a - b);
  const sizes = [...byIdentity.values()].map(({ length }) => length).sort((a, b) => a - b);
  const each = sizes[sizes.length >> 1]! < K ? K / 2 : K;
  const perBatch = Math.ceil(batchSize / each);
  let shuffled: { epoch: number; order: number[] } | undefined;
  const identityAt = (position: number): number => {
    const epoch = Math.floor(position / identities.length);
    if (shuffled?.epoch !== epoch)
      shuffled = { epoch, order: new Rng(...path, 'identities', epoch).shuffle([...identities]) };
    return shuffled.order[position % identities.length]!;
  };
  return (step: number): Int32Array => {
    const drawn: number[] = [];
    for (let p = 0; p < perBatch; p++) {
      const identity = identityAt(step * perBatch + p);
      const rng = new Rng(...path, 'images', step, p);
      const ordered = byCameras(byIdentity.get(identity)!, targets.cameraOf!, rng);
      for (let k = 0; k < each; k++) drawn.push(ordered[k % ordered.length]!);
    }
    return Int32Array.from(drawn.slice(0, batchSize));
  };
}

/** Shuffled so that the first of each camera come first, then the second of each. */
function byCameras(images: readonly number[], cameraOf: Int32Array, rng: Rng): number[] {
  const turn = new Map<number, number>();
  return rng
    .shuffle([...images])
    .map((image) => {
      const camera = cameraOf[image]!;
      const round = turn.get(camera) ?? 0;
      turn.set(camera, round + 1);
      return { image, round };
    })
    .sort((a, b) => a.round - b.round)
    .map(({ image }) => image);
}
