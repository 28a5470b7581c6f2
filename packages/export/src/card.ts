/** The model card: README.md of the bundle. */
import type { ClassificationMetrics, Manifest } from '@ntaa/contracts';
import { canonical, wilsonInterval } from '@ntaa/nas';
import { markdownText as text } from './text.js';

/** A network the model is compared with, measured on the same test split. */
export interface ComparedNetwork {
  metrics: ClassificationMetrics;
  /** Multiply-accumulates for one image. */
  macs: number;
  params: number;
}

/** What the card says beyond the manifest. Names are shown as they are: nothing in them acts as Markdown. */
export interface ModelCard {
  dataset: { name: string; images: { train: number; validation: number; test: number } };
  supernet: { name: string; source: string };
  /** Test images of each class and how many of them were classified correctly, in the order of the labels. */
  classes: { images: number; correct: number }[];
  /** Weights-only adaptation (WP&F) of a fixed architecture at the same training budget. */
  baseline?: ComparedNetwork;
  /** The largest net of the adapted supernet. */
  largest?: ComparedNetwork;
  /** Limits of this very model, a sentence each, in Markdown. */
  limits: string[];
}

type CardManifest = Omit<Manifest, 'files'>;

export function renderCard(manifest: CardManifest, card: ModelCard): string {
  return [
    summary(manifest, card),
    data(manifest, card),
    metrics(manifest.metrics),
    comparison(manifest, card),
    perClass(manifest, card),
    USAGE,
    limits(card),
  ]
    .filter((section) => section !== '')
    .join('\n\n')
    .concat('\n');
}

const count = (value: number) => value.toLocaleString('en-US');
const percent = (value: number) => `${(100 * value).toFixed(1)}%`;
const interval = ([low, high]: readonly [number, number]) => `${percent(low)} to ${percent(high)}`;
const millions = (value: number) => `${(value / 1e6).toFixed(2)} M`;

function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function summary(manifest: CardManifest, { supernet }: ModelCard): string {
  const { genotype, preprocessing, lineage, labels } = manifest;
  const rows = [
    ['Task', text(manifest.task)],
    ['Input', `one RGB image, ${preprocessing.width} x ${preprocessing.height} px after preprocessing`],
    ['Output', `${labels.length} logits, one a class; softmax turns them into probabilities`],
    ['Multiply-accumulates an image', count(manifest.macs)],
    ['Parameters', count(manifest.params)],
    ['Architecture', text(canonical(genotype))],
    ['Supernet', `${text(supernet.name)}, pretrained on ${text(supernet.source)}`],
    ['Made by', `ntaa ${text(lineage.version)}, engine ${text(lineage.engine)}, seed ${lineage.seed}`],
    ['Job', text(lineage.job)],
  ];
  return [
    `# Image ${text(manifest.task)} model`,
    'A small convolutional network whose architecture and weights were adapted together to the data below: an ' +
      'architecture was searched inside a pretrained supernet and its inherited weights were finetuned.',
    table(['', ''], rows),
  ].join('\n\n');
}

function data({ labels, lineage }: CardManifest, { dataset }: ModelCard): string {
  const { train, validation, test } = dataset.images;
  return [
    '## Data',
    `Dataset: ${text(dataset.name)} (id ${text(lineage.dataset)}), ${labels.length} classes; ` +
      `${count(train)} training, ${count(validation)} validation and ${count(test)} test images. ` +
      'The test images took no part in training or selection.',
  ].join('\n\n');
}

function metrics(measured: ClassificationMetrics): string {
  const { top1, top1_interval: range, top5, balanced_accuracy: balanced, loss, images } = measured;
  const rows = [
    ['Top-1 accuracy', `${percent(top1)} (95% interval ${interval(range)})`],
    ['Top-5 accuracy', fraction(top5, images)],
    ['Balanced accuracy', percent(balanced)],
    ['Cross-entropy', `${loss.toFixed(4)} nats`],
  ];
  return `## Metrics on the ${count(images)} test images\n\n${table(['Metric', 'Value'], rows)}`;
}

/** A share of n images with its Wilson interval. */
function fraction(share: number, n: number): string {
  return `${percent(share)} (95% interval ${interval(wilsonInterval(Math.round(share * n), n))})`;
}

function comparison(manifest: CardManifest, { baseline, largest }: ModelCard): string {
  if (!baseline && !largest) return '';
  const row = (name: string, network: ComparedNetwork) => [
    name,
    `${percent(network.metrics.top1)} (${interval(network.metrics.top1_interval)})`,
    millions(network.macs),
    count(network.params),
  ];
  const rows = [row('This model', manifest)];
  if (baseline) rows.push(row('WP&amp;F: weights-only adaptation of a fixed architecture', baseline));
  if (largest) rows.push(row('The largest net of the adapted supernet', largest));
  const note =
    'Same test images for all; WP&amp;F (weight pretraining and finetuning) had the same training budget.';
  return [
    '## Comparison',
    table(['Network', 'Top-1 (95% interval)', 'MACs', 'Parameters'], rows),
    ...(baseline ? [note] : []),
  ].join('\n\n');
}

function perClass({ labels }: CardManifest, { classes }: ModelCard): string {
  const rows = labels.map((label, k) => {
    const { images, correct } = classes[k]!;
    const recall = images === 0 ? 'no test image' : fraction(correct / images, images);
    return [text(label), count(images), recall];
  });
  return `## Classes\n\n${table(['Class', 'Test images', 'Classified correctly'], rows)}`;
}

function limits(card: ModelCard): string {
  const sentences = [
    'It answers with one of its classes for every image, also for one that shows none of them.',
    'The intervals say how far chance in drawing the test images reaches. They say nothing of images from another ' +
      'source, camera or time.',
    'Probabilities were not calibrated.',
    ...card.limits,
  ];
  return `## Limits\n\n${sentences.map((sentence) => `- ${sentence}`).join('\n')}`;
}

/** Reads everything from manifest.json, so it holds for every bundle. The bundle's test runs it. */
const USAGE = `## Running it

In the unpacked folder, after \`npm install onnxruntime-node sharp\`, save as \`predict.mjs\` and run \`node predict.mjs photo.jpg\`:

\`\`\`js
import { readFileSync } from 'node:fs';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import sharp from 'sharp';

const { labels, preprocessing: p } = JSON.parse(readFileSync('manifest.json', 'utf8'));
const { fit, kernel, background } = p;
const pixels = await sharp(process.argv[2]).autoOrient().flatten({ background }).toColourspace('srgb')
  .resize(p.width, p.height, { fit, kernel, background }).raw().toBuffer();
const area = p.width * p.height;
const image = Float32Array.from({ length: 3 * area }, (_, i) => {
  const c = Math.floor(i / area);
  return (pixels[(i % area) * 3 + c] * p.scale - p.mean[c]) / p.std[c];
});
const session = await InferenceSession.create('model.onnx');
const { logits } = await session.run({ image: new Tensor('float32', image, [1, 3, p.height, p.width]) });
console.log(labels[logits.data.indexOf(Math.max(...logits.data))]);
\`\`\`

\`tfjs/model.json\` is a TensorFlow.js GraphModel for browsers: \`tf.loadGraphModel\`, the same values as [N, H, W, 3]. \`model.safetensors\` holds the weights as trained, with the batch-norm statistics not yet folded into them.`;
