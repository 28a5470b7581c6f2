import type { AdaptOutcome, TargetData } from '@ntaa/adaptation';
import { newId, type AdaptRequest, type DownloadFormat, type Lineage } from '@ntaa/contracts';
import type { DatasetIndex } from '@ntaa/data';
import type { NewModel, StoredFile } from '@ntaa/db';
import { tf, type EngineInfo } from '@ntaa/engine';
import { buildBundle, type ModelCard } from '@ntaa/export';
import { fold, type NamedTensors } from '@ntaa/supernet';
import { Rng } from '@ntaa/random';
import type { JobAssignment } from './protocol.js';
import type { LoadedSupernet } from './run-job.js';
import { VERSION } from './version.js';
import type { WorkStore } from './work-store.js';

const SERVED: Record<DownloadFormat, { filename: string; contentType: string }> = {
  onnx: { filename: 'model.onnx', contentType: 'application/octet-stream' },
  tfjs: { filename: 'tfjs.zip', contentType: 'application/zip' },
  safetensors: { filename: 'model.safetensors', contentType: 'application/octet-stream' },
  bundle: { filename: 'bundle.zip', contentType: 'application/zip' },
};
const VERIFIED_IMAGES = 16;

export interface PublishInput {
  assignment: JobAssignment;
  request: AdaptRequest;
  outcome: AdaptOutcome;
  data: TargetData;
  index: DatasetIndex;
  engine: EngineInfo;
  supernet: LoadedSupernet;
  store: WorkStore;
  /** Empty folder for the files. */
  out: string;
}

/** Exports, verifies and stores a model; says what becomes of it in the database. Disposes the outcome's network. */
export async function publishModel(input: PublishInput): Promise<NewModel> {
  const { outcome, data, store } = input;
  const { net, bn, genotype, macs, params, metrics } = outcome;
  const resolution = genotype.resolution;
  const preprocessing = { ...data.preprocessing, width: resolution, height: resolution };
  const tensors: NamedTensors = new Map([...net.tensors(), ...bn.tensors()]);
  const graph = fold(net, bn);
  const verify = verificationSet(input);
  net.dispose();
  bn.dispose();
  const task = input.request.task;
  const labels = [...data.labels];
  const about = { task, labels, preprocessing, genotype, macs, params, metrics, lineage: lineageOf(input) };
  const bundle = await buildBundle(
    { graph, tensors, manifest: about, card: cardOf(input), verify },
    input.out,
  );

  const id = newId('mdl');
  const storage: Partial<Record<DownloadFormat, StoredFile>> = {};
  for (const [format, served] of Object.entries(SERVED) as [
    DownloadFormat,
    (typeof SERVED)[DownloadFormat],
  ][]) {
    const key = `${input.assignment.outputs}${served.filename}`;
    const stored = await store.putFile(key, bundle.files[format].path);
    storage[format] = { ...stored, ...served };
  }
  return { id, ...about, files: bundle.manifest.files, storage };
}

/** Random inputs, as different from images as can be, and what our own engine makes of them. */
function verificationSet({ outcome, request }: PublishInput) {
  const { resolution } = outcome.genotype;
  const rng = new Rng(request.seed ?? 0, 'verification');
  const images = Float32Array.from({ length: VERIFIED_IMAGES * resolution * resolution * 3 }, () =>
    rng.normal(),
  );
  const logits = tf.tidy(() => {
    const x = tf.tensor4d(images, [VERIFIED_IMAGES, resolution, resolution, 3]);
    return outcome.net.forward(x, outcome.genotype, outcome.bn).logits.dataSync().slice() as Float32Array;
  });
  return { images, n: VERIFIED_IMAGES, logits };
}

function lineageOf({ assignment, request, supernet, engine }: PublishInput): Lineage {
  return {
    job: assignment.jobId,
    supernet: supernet.id,
    supernet_sha256: supernet.sha256,
    dataset: assignment.dataset.id,
    dataset_sha256: assignment.dataset.sha256,
    seed: request.seed ?? 0,
    engine: engine.name,
    engine_reason: engine.reason,
    version: VERSION,
  };
}

function cardOf({ assignment, outcome, data, index }: PublishInput): ModelCard {
  const { test } = data.splits;
  const outputs = data.labels.length;
  const classes = data.labels.map(() => ({ images: 0, correct: 0 }));
  test.forEach((sample, i) => {
    const row = outcome.predictions.subarray(i * outputs, (i + 1) * outputs);
    const predicted = row.reduce((best, value, k) => (value > row[best]! ? k : best), 0);
    const slice = classes[index.samples[sample]!.label]!;
    slice.images += 1;
    if (predicted === index.samples[sample]!.label) slice.correct += 1;
  });
  const { baseline, largest } = outcome;
  return {
    dataset: {
      name: assignment.dataset.id,
      images: {
        train: data.splits.train.length,
        validation: data.splits.validation.length,
        test: test.length,
      },
    },
    supernet: { name: assignment.supernet!.name, source: assignment.supernet!.source },
    classes,
    ...(baseline && { baseline }),
    ...(largest && { largest }),
    limits: [
      'It was measured on images held out from the same dataset; images of another origin can be harder.',
      'It always answers with one of its labels, whatever the image shows.',
    ],
  };
}
