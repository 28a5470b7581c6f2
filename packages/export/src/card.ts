/** The model card: README.md of the bundle. */
import type { Genotype, Manifest, Metrics } from '@ntaa/contracts';
import { canonical } from '@ntaa/nas';
import { headline, metricRows, sliceRows } from './card-metrics.js';
import { count, fraction, millions, table } from './markdown.js';
import { markdownText as text } from './text.js';
import { answerOf, usage } from './usage.js';

/** A network the model is compared with, measured on the same test split. */
export interface ComparedNetwork {
  metrics: Metrics;
  /** Multiply-accumulates for one image. */
  macs: number;
  params: number;
  genotype: Genotype;
}

/** What the card says beyond the manifest. Names are shown as they are: nothing in them acts as Markdown. */
export interface ModelCard {
  dataset: { name: string; images: { train: number; validation: number; test: number } };
  supernet: { name: string; source: string };
  /** Whether inherited weights were finetuned; in linear evaluation they stay as they are. */
  finetuned: boolean;
  /**
   * Test images of each class and how many of them were classified correctly, in the order of the labels; only where
   * their labels are known.
   */
  classes?: { images: number; correct: number }[];
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
    slices(manifest.metrics),
    comparison(manifest, card),
    perClass(manifest, card),
    usage(manifest.outputs[0]!.name),
    limits(manifest, card),
  ]
    .filter((section) => section !== '')
    .join('\n\n')
    .concat('\n');
}

function summary(manifest: CardManifest, { supernet, finetuned }: ModelCard): string {
  const { genotype, preprocessing, lineage } = manifest;
  const rows = [
    ['Task', text(manifest.task)],
    ['Input', `one RGB image, ${preprocessing.width} x ${preprocessing.height} px after preprocessing`],
    ['Output', answerOf(manifest)],
    ['Multiply-accumulates an image', count(manifest.macs)],
    ['Parameters', count(manifest.params)],
    ['Architecture', text(canonical(genotype))],
    ['Supernet', `${text(supernet.name)}, pretrained on ${text(supernet.source)}`],
    ['Made by', `ntaa ${text(lineage.version)}, engine ${text(lineage.engine)}, seed ${lineage.seed}`],
    ['Job', text(lineage.job)],
  ];
  return [
    `# Image ${text(manifest.task)} model`,
    `A small convolutional network adapted to the data below: ${origin(finetuned)}`,
    table(['', ''], rows),
  ].join('\n\n');
}

/** What was done, in half a sentence. */
export const origin = (finetuned: boolean): string =>
  finetuned
    ? 'its architecture was searched inside a pretrained supernet, and the weights it inherited were finetuned.'
    : 'its architecture was searched inside a pretrained supernet, whose weights it has; only a classifier was fitted.';

function data({ labels, lineage }: CardManifest, { dataset }: ModelCard): string {
  const { train, validation, test } = dataset.images;
  return [
    '## Data',
    `Dataset: ${text(dataset.name)} (id ${text(lineage.dataset)}), ` +
      `${labels.length > 0 ? `${labels.length} classes; ` : ''}` +
      `${count(train)} training, ${count(validation)} validation and ${count(test)} test images. ` +
      'The test images took no part in training or selection.',
  ].join('\n\n');
}

function metrics(measured: Metrics): string {
  const rows = metricRows(measured);
  return `## Metrics on the ${count(measured.images)} test images\n\n${table(['Metric', 'Value'], rows)}`;
}

function slices(measured: Metrics): string {
  const { head, rows } = sliceRows(measured);
  if (rows.length === 0) return '';
  return [
    '## Slices',
    'The same test images by other columns of the dataset. Wide intervals mean few images, not equal quality; slices ' +
      'that the dataset does not name were not looked at.',
    table(head, rows),
  ].join('\n\n');
}

function comparison(manifest: CardManifest, { baseline, largest }: ModelCard): string {
  if (!baseline && !largest) return '';
  const row = (name: string, network: ComparedNetwork) => [
    name,
    headline(network.metrics).value,
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
    table(['Network', headline(manifest.metrics).name, 'MACs', 'Parameters'], rows),
    ...(baseline ? [note] : []),
  ].join('\n\n');
}

function perClass({ labels }: CardManifest, { classes }: ModelCard): string {
  if (!classes) return '';
  const rows = labels.map((label, k) => {
    const { images, correct } = classes[k]!;
    const recall = images === 0 ? 'no test image' : fraction(correct / images, images);
    return [text(label), count(images), recall];
  });
  return `## Classes\n\n${table(['Class', 'Test images', 'Classified correctly'], rows)}`;
}

function limits({ task, outputs }: CardManifest, card: ModelCard): string {
  const sentences = [
    ...(outputs[0]!.name === 'logits'
      ? ['It answers with one of its classes for every image, also for one that shows none of them.']
      : []),
    'The intervals say how far chance in drawing the test images reaches. They say nothing of images from another ' +
      'source, camera or time.',
    ...(outputs[0]!.name === 'logits' ? ['Probabilities were not calibrated.'] : []),
    ...(LIMITS[task] ?? []),
    ...card.limits,
  ];
  return `## Limits\n\n${sentences.map((sentence) => `- ${sentence}`).join('\n')}`;
}

/** What such a model cannot do however well it was trained. */
export const LIMITS: Readonly<Record<string, readonly string[]>> = {
  'gender-recognition': [
    'It tells how pictures of people were labelled, not what gender somebody has: that cannot be seen in an image. It ' +
      'knows the labels of its dataset only, and is wrong about everybody whom they do not fit.',
    'Such models do worse on groups that their data lacks. The slices show it only for the columns that the dataset has.',
    'It must not decide about people: access, prices, employment, policing.',
  ],
  'age-estimation': [
    'It estimates how old a face looks, which differs from how old a person is. It must not be the only proof of age.',
    'Ages that were rare in training are drawn towards the others; ages above 100 are answered with at most 100.',
  ],
  're-identification': [
    'It ranks images by likeness. A near image is a candidate, not proof of identity; the nearest of a gallery is always ' +
      'somebody, also when the person is not in it.',
    'Identities of the test are others than those of training, but places, cameras and season are the same.',
    'Searching for people in images of cameras is regulated by law in many places.',
  ],
  'domain-adaptation': [
    'Labels of the target were never seen. That the answers fit it rests on the source looking like it, with the same ' +
      'classes: one that the source lacks cannot be answered.',
  ],
};
