/** report.html: one file, no script, nothing fetched; the same job gives the same bytes. */
import { createHash } from 'node:crypto';
import type { ClassificationMetrics, Metrics } from '@ntaa/contracts';
import { headline, metricRows, sliceRows } from '../card-metrics.js';
import { LIMITS, origin } from '../card.js';
import { count, fraction, millions, short } from '../markdown.js';
import { xmlText } from '../text.js';
import { architectureTable, changes, compareArchitectures } from './architecture.js';
import { calibrationRows, confusionRows } from './classes.js';
import { curveRows } from './curves.js';
import { choiceTold, gainTables, testGain } from './gain.js';
import { cards, figure, list, p, PAGE_STYLE, section, table } from './html.js';
import { measuredNetworks, type Subject } from './input.js';
import { frontOf } from './pareto.js';
import type { Picture } from './picture.js';

/** Rows of a table, at most: the model card has all of them. */
const MOST_ROWS = 60;
export type PictureName =
  'pareto' | 'gain' | 'architecture' | 'confusion' | 'calibration' | 'slices' | 'learning-curves';
type Pictures = ReadonlyMap<PictureName, Picture>;

export function renderPage(subject: Subject, pictures: Pictures): string {
  const { task } = subject.manifest;
  const title = `Report: image ${task} model`;
  // Scripts, fonts, frames and requests are refused even where a browser would allow them to a local file.
  const style = createHash('sha256').update(PAGE_STYLE).digest('base64');
  const policy = `default-src 'none'; style-src 'sha256-${style}'; base-uri 'none'; form-action 'none'`;
  const draw = (name: PictureName): string => figure(pictures.get(name) ?? null, name);
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">',
    `<title>${xmlText(title)}</title><style>${PAGE_STYLE}</style></head><body><main>`,
    `<h1>${xmlText(title)}</h1>`,
    summary(subject),
    front(subject, draw),
    gain(subject, draw),
    architecture(subject, draw),
    metrics(subject, draw),
    section(
      'Learning curves',
      draw('learning-curves'),
      table(
        'Where the curves begin and end',
        ['Training', 'Curve', 'First', 'Last', 'Image passes'],
        curveRows(subject),
      ),
    ),
    making(subject),
    limits(subject),
    '</main></body></html>\n',
  ]
    .filter((part) => part !== '')
    .join('\n');
}

type Draw = (name: PictureName) => string;

function summary({ manifest, card }: Subject): string {
  const { metrics: measured, macs, params, lineage, preprocessing } = manifest;
  const { name, value } = headline(measured);
  const { train, validation, test } = card.dataset.images;
  const facts: [string, string][] = [
    [name, value],
    ...(card.baseline
      ? [['The same for weights-only adaptation', headline(card.baseline.metrics).value] as [string, string]]
      : []),
    ['Multiply-accumulates an image', millions(macs)],
    ['Parameters', count(params)],
    ['Input', `${preprocessing.width} x ${preprocessing.height} px`],
  ];
  return [
    p(
      `A network adapted to a dataset: ${origin(card.finetuned)} The supernet was pretrained on ${card.supernet.source}.`,
    ),
    cards(facts),
    p(
      `Dataset ${card.dataset.name}: ${count(train)} training, ${count(validation)} validation and ${count(test)} test images. ` +
        'The test images took no part in training or selection and were read once. ' +
        `Job ${lineage.job}, seed ${lineage.seed}, engine ${lineage.engine}, ntaa ${lineage.version}.`,
    ),
  ].join('\n');
}

function front(subject: Subject, draw: Draw): string {
  const { quality, points, dots, front, measured } = frontOf(subject);
  const { request } = subject.job;
  const rows = [
    ...measured.map(({ name, macs, value, interval }) => [
      name,
      short(macs),
      interval
        ? `${quality.show(value)} (${quality.show(interval[0])} to ${quality.show(interval[1])})`
        : quality.show(value),
      `${quality.split}, finished network`,
    ]),
    ...points
      .filter(({ pareto, selected }) => pareto || selected)
      .slice(0, MOST_ROWS)
      .map(({ macs, value, selected }) => [
        selected ? 'chosen, before finetuning' : 'Pareto front',
        short(macs),
        quality.show(value),
        'validation, inherited weights',
      ]),
  ];
  return section(
    'Quality against cost',
    p(
      `${count(points.length)} architectures were judged on validation images with the weights they inherit. The front is ` +
        `that of the search's own fitness against ${request.objective ?? 'macs'}, so it need not rise in every step here. ` +
        'Finished networks were trained on and measured on other images: what lies between a dot and its finished network is finetuning and the difference of the images.',
    ),
    dots.length + front.length < points.length
      ? p(`The picture shows ${dots.length + front.length} of them.`)
      : '',
    draw('pareto'),
    table('The front and the finished networks', ['Network', 'MACs', quality.name, 'Measured on'], rows),
  );
}

function gain(subject: Subject, draw: Draw): string {
  const tables = gainTables(subject);
  const { gain: measured } = subject.job;
  const test = testGain(subject);
  const title = 'Where the gain came from';
  if (!tables || !measured)
    return section(title, test ? p(test) : '', p('The parts of the gain were not measured by this job.'));
  return section(
    title,
    test ? p(`${test} This is the gain as a whole, measured on images that nothing was selected on.`) : '',
    p(
      `Its parts can only be measured before finetuning takes in the validation images. On ${count(measured.images)} validation ` +
        `images, two architectures were judged under two sets of weights: the reference, which weights-only adaptation uses ` +
        `(${millions(measured.reference.macs)} MACs), and the chosen one (${millions(subject.manifest.macs)} MACs). Validation images chose the architecture, so its figures here are on the kind side.`,
    ),
    tables.parts
      ? draw('gain')
      : p(
          'One of these was not measured, because the clock or the user left no time for it; so the parts are not told.',
        ),
    table(
      'Measured on validation images (95% interval)',
      ['Weights', 'Reference architecture', 'Chosen architecture'],
      tables.measured,
    ),
    table('Parts of the gain', ['Part', 'Change'], tables.parts ?? []),
    table(
      'Why a mean: each part depends on what came before it',
      ['Part', 'Taken first', 'Taken second'],
      tables.orders ?? [],
    ),
    p(
      'What the rest of finetuning added is in the test figures alone: by then validation images were training images. ' +
        'How the reference would have gained from finetuning is shown by the WP&F baseline, on test images.',
    ),
  );
}

function architecture(subject: Subject, draw: Draw): string {
  const comparison = compareArchitectures(subject);
  const { head, rows } = architectureTable(comparison, subject.manifest);
  const known = comparison.columns.length > 1;
  const why = choiceTold(subject);
  return section(
    'Architecture',
    why ? p(why) : '',
    known ? list(changes(comparison)) : p('There is no other architecture to compare it with.'),
    draw('architecture'),
    table('Block by block: kernel, expansion; channels in, inside, out', head, rows),
  );
}

function metrics(subject: Subject, draw: Draw): string {
  const { manifest } = subject;
  const networks = measuredNetworks(subject);
  const names = metricRows(manifest.metrics).map(([name]) => name!);
  const columns = networks.map(
    ({ network }) => new Map(metricRows(network.metrics).map(([a, b]) => [a!, b!])),
  );
  const rows = names.map((name) => [name, ...columns.map((column) => column.get(name) ?? 'not measured')]);
  const about = [
    ['Multiply-accumulates', ...networks.map(({ network }) => count(network.macs))],
    ['Parameters', ...networks.map(({ network }) => count(network.params))],
  ];
  const slices = sliceRows(manifest.metrics, (value) => value);
  return section(
    'Metrics',
    table(
      `On the ${count(manifest.metrics.images)} test images, read once at the end`,
      ['Metric', ...networks.map(({ name }) => name)],
      [...rows, ...about],
    ),
    draw('slices'),
    table(
      'Slices of the test images by other columns of the dataset: wide intervals mean few images, not equal quality',
      slices.head,
      slices.rows.slice(0, MOST_ROWS),
    ),
    more(slices.rows.length),
    classes(subject, draw),
  );
}

const more = (rows: number): string =>
  rows > MOST_ROWS ? p(`And ${count(rows - MOST_ROWS)} more, which README.md of the bundle lists.`) : '';

/** Those metrics that know classes, of the target where there are two domains. */
export function classMetrics(measured: Metrics): ClassificationMetrics | null {
  if ('top1' in measured) return measured;
  return 'oracle' in measured ? measured.oracle : null;
}

function classes({ manifest: { labels, metrics: measured }, card }: Subject, draw: Draw): string {
  const known = classMetrics(measured);
  const numbered = labels.map((label, k) => `${k + 1} ${label}`);
  const recalls = (card.classes ?? [])
    .map((entry, k) => ({
      ...entry,
      name: numbered[k]!,
      recall: entry.images ? entry.correct / entry.images : 2,
    }))
    .sort((a, b) => (labels.length > MOST_ROWS ? a.recall - b.recall : 0));
  const rows = recalls
    .slice(0, MOST_ROWS)
    .map(({ name, images, recall }) => [
      name,
      count(images),
      images ? fraction(recall, images) : 'no test image',
    ]);
  return [
    known && !known.confusion && labels.length > 0
      ? p(`A confusion matrix of ${count(labels.length)} classes is not kept: only up to 100 can be read.`)
      : '',
    draw('confusion'),
    known
      ? table(
          'Most frequent confusions',
          ['True class', 'Answer', 'Images', 'Of the class'],
          confusionRows(known, numbered),
        )
      : '',
    draw('calibration'),
    known
      ? table(
          'Calibration: answers by confidence',
          ['Mean confidence', 'Right', 'Images'],
          calibrationRows(known),
        )
      : '',
    table(
      labels.length > MOST_ROWS ? 'Classes with the lowest recall' : 'Classes',
      ['Class', 'Test images', 'Classified correctly'],
      rows,
    ),
    more(recalls.length),
  ].join('\n');
}

function making({ job, manifest }: Subject): string {
  const { request, search, seconds, stopReason } = job;
  const limits = Object.entries({ ...request.constraints, ...request.budget }).filter(
    ([, value]) => value != null,
  );
  const rows = [
    [
      'Asked for',
      `${request.task}, ${request.paradigm ?? 'supervised'}, objective ${request.objective ?? 'macs'}`,
    ],
    ...limits.map(([name, value]) => [name, count(Number(value))]),
    ['Ended', stopReason.replace('_', ' ')],
    ['Architectures judged', `${count(search.evaluated)}, ${count(search.pareto_size)} on the front`],
    [
      "Predictor's rank correlation",
      search.rank_correlation === null
        ? 'not fitted'
        : `${search.rank_correlation.toFixed(2)} (Kendall's tau, cross-validated)`,
    ],
    ...Object.entries(seconds).map(([stage, value]) => [`Time for ${stage}`, `${value.toFixed(1)} s`]),
    ['Supernet', `${manifest.lineage.supernet}, sha256 ${manifest.lineage.supernet_sha256}`],
    ['Dataset', `${manifest.lineage.dataset}, sha256 ${manifest.lineage.dataset_sha256}`],
  ];
  return section('How it was made', table('The job', ['', ''], rows));
}

function limits({ manifest, card }: Subject): string {
  return section(
    'Limits',
    list([
      'Intervals say how far chance in drawing the images reaches. They say nothing of images from another source, camera or time.',
      ...(LIMITS[manifest.task] ?? []),
      ...card.limits,
    ]),
  );
}
