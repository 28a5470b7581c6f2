import type { AdaptOutcome, TargetData } from '@ntaa/adaptation';
import { newId, type AdaptRequest, type Genotype, type Lineage, type ModelFile } from '@ntaa/contracts';
import type { NewModel, StoredFile } from '@ntaa/db';
import { tf, type EngineInfo } from '@ntaa/engine';
import { buildBundle, type ModelCard, type ReportInput, type SourceArchitecture } from '@ntaa/export';
import { inputSize, parseCanonical, taskSpace } from '@ntaa/nas';
import { fold, type NamedTensors, type StaticGraph } from '@ntaa/supernet';
import { taskFor } from '@ntaa/tasks';
import { Rng } from '@ntaa/random';
import type { JobAssignment } from './protocol.js';
import type { LoadedSupernet } from './fetch-data.js';
import { VERSION } from './version.js';
import type { WorkStore } from './work-store.js';

const SERVED: Record<ModelFile, { filename: string; contentType: string }> = {
  onnx: { filename: 'model.onnx', contentType: 'application/octet-stream' },
  tfjs: { filename: 'tfjs.zip', contentType: 'application/zip' },
  safetensors: { filename: 'model.safetensors', contentType: 'application/octet-stream' },
  bundle: { filename: 'bundle.zip', contentType: 'application/zip' },
  report: { filename: 'report.html', contentType: 'text/html; charset=utf-8' },
};
const VERIFIED_IMAGES = 16;

export interface PublishInput {
  assignment: JobAssignment;
  request: AdaptRequest;
  outcome: AdaptOutcome;
  data: TargetData;
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
  const preprocessing = { ...data.preprocessing, ...inputSize(net.space, genotype) };
  const tensors: NamedTensors = new Map([...net.tensors(), ...bn.tensors()]);
  const { output, delivery } = taskFor(input.request.task);
  const graph = fold(net, bn, delivery);
  const verify = verificationSet(input, graph);
  net.dispose();
  bn.dispose();
  const task = input.request.task;
  const labels = output === 'logits' ? [...data.labels] : [];
  const about = { task, labels, preprocessing, genotype, macs, params, metrics, lineage: lineageOf(input) };
  const bundle = await buildBundle(
    { output, graph, tensors, manifest: about, card: cardOf(input), report: reportOf(input), verify },
    input.out,
  );

  const id = newId('mdl');
  const storage: Partial<Record<ModelFile, StoredFile>> = {};
  for (const [format, served] of Object.entries(SERVED) as [ModelFile, (typeof SERVED)[ModelFile]][]) {
    const key = `${input.assignment.outputs}${served.filename}`;
    const stored = await store.putFile(key, bundle.files[format].path);
    storage[format] = { ...stored, ...served };
  }
  return { id, ...about, files: bundle.manifest.files, storage };
}

/** Random inputs, as different from images as can be, and what our own engine makes of them. */
function verificationSet({ outcome, request }: PublishInput, graph: StaticGraph) {
  const { width, height } = graph.input;
  const rng = new Rng(request.seed ?? 0, 'verification');
  const images = Float32Array.from({ length: VERIFIED_IMAGES * height * width * 3 }, () => rng.normal());
  const outputs = tf.tidy(() => {
    const x = tf.tensor4d(images, [VERIFIED_IMAGES, height, width, 3]);
    const { features, logits } = outcome.net.forward(x, outcome.genotype, outcome.bn);
    return endingOf(graph, features, logits).dataSync().slice() as Float32Array;
  });
  return { images, n: VERIFIED_IMAGES, outputs };
}

/** What the delivered graph makes of the trained network's last values, computed apart from it. */
function endingOf(graph: StaticGraph, features: tf.Tensor2D, logits: tf.Tensor2D): tf.Tensor {
  const { op } = graph.nodes.find(({ name }) => name === graph.output)!;
  if (op === 'l2-normalise') return tf.div(features, tf.norm(features, 2, 1, true));
  if (graph.output !== 'expectation') return logits;
  const bins = tf.range(0, logits.shape[1]);
  return tf.sum(tf.mul(tf.softmax(logits), bins), 1, true);
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

function cardOf({ assignment, request, outcome, data }: PublishInput): ModelCard {
  const { train, validation, test } = data.splits;
  const { baseline, largest } = outcome;
  const classes = request.task === 'domain-adaptation' ? null : classesOf(outcome, data, request);
  return {
    dataset: {
      name: assignment.dataset.id,
      images: { train: train.length, validation: validation.length, test: test.length },
    },
    supernet: { name: assignment.supernet!.name, source: assignment.supernet!.source },
    finetuned: request.paradigm !== 'linear-evaluation',
    ...(classes && { classes }),
    ...(baseline && { baseline }),
    ...(largest && { largest }),
    limits: [
      'It was measured on images held out from the same dataset; images of another origin can be harder.',
      ...(request.paradigm === 'linear-evaluation'
        ? [
            'Linear evaluation: weights are those of the supernet, nothing was finetuned; only a classifier was fitted, ' +
              'in closed form, and so it was for the networks it is compared with.',
          ]
        : []),
    ],
  };
}

function reportOf({ assignment, request, outcome, data, supernet }: PublishInput): ReportInput {
  const { candidates, gain, curves, search, seconds, stopReason } = outcome;
  const space = taskSpace(request.task, supernet.space, data.aspect);
  const source = bestOnSource(assignment.supernet!.metrics);
  return { candidates, gain, curves, search, seconds, stopReason, request, space, source };
}

/** The architecture that did best when the supernet was pretrained, of those that were measured. */
function bestOnSource(metrics: Readonly<Record<string, unknown>>): SourceArchitecture | null {
  const subnets = (metrics['subnets'] ?? []) as { genotype: Genotype | string; top1: number }[];
  const best = subnets.reduce<(typeof subnets)[number] | null>(
    (a, b) => (a && a.top1 >= b.top1 ? a : b),
    null,
  );
  if (best === null) return null;
  const { genotype, top1 } = best;
  return { genotype: typeof genotype === 'string' ? parseCanonical(genotype) : genotype, top1 };
}

/** Test images of each class, and how many were told right; null for tasks without classes. */
function classesOf(
  outcome: AdaptOutcome,
  data: TargetData,
  { task }: AdaptRequest,
): ModelCard['classes'] | null {
  if (taskFor(task).output !== 'logits') return null;
  const outputs = data.labels.length;
  const classes = data.labels.map(() => ({ images: 0, correct: 0 }));
  data.splits.test.forEach((sample, i) => {
    const row = outcome.predictions.subarray(i * outputs, (i + 1) * outputs);
    const predicted = row.reduce((best, value, k) => (value > row[best]! ? k : best), 0);
    const label = data.labelOf[sample]!;
    classes[label]!.images += 1;
    if (predicted === label) classes[label]!.correct += 1;
  });
  return classes;
}
