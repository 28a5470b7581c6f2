/**
 * How much of the gain came from architecture, weights and finetuning. Two architectures under two sets of weights give
 * two answers to what either is worth, since each helps the other: their mean (the Shapley value) adds up to the whole.
 */
import type { Gain } from '@ntaa/contracts';
import { scaleOf, wilsonInterval } from '@ntaa/nas';
import { interval, millions, percent } from '../markdown.js';
import { plot } from './axes.js';
import type { Subject } from './input.js';
import { line, n, rect, text, type Picture } from './picture.js';
import { QUALITY_NAMES, qualityOf } from './quality.js';

interface Decomposition {
  /** Shares, 0..1, of the metric. */
  start: number;
  architecture: number;
  weights: number;
  /** Null where no finetuned network was measured on validation images. */
  finetuning: number | null;
}

/** Null where one of the four is missing: nothing is invented. */
export function decompose({ source_weights, transferred_weights, finetuned }: Gain): Decomposition | null {
  const [a, b] = [source_weights.reference, source_weights.chosen];
  const [c, d] = [transferred_weights.reference, transferred_weights.chosen];
  if (a === null || b === null || c === null || d === null) return null;
  return {
    start: a,
    architecture: (b - a + (d - c)) / 2,
    weights: (c - a + (d - b)) / 2,
    finetuning: finetuned === null ? null : finetuned - d,
  };
}

const signed = (value: number): string =>
  `${value < 0 ? '-' : '+'}${Math.abs(100 * value).toFixed(1)} points`;

/** Shares of images have an interval; means over classes or queries do not have one here. */
function measured(gain: Gain, value: number | null): string {
  if (value === null) return 'not measured';
  if (!['top1', 'cs5', 'source_top1'].includes(gain.metric)) return percent(value);
  return `${percent(value)} (${interval(wilsonInterval(Math.round(value * gain.images), gain.images))})`;
}

export function gainTables({ job: { gain } }: Subject) {
  if (!gain) return null;
  const { source_weights: source, transferred_weights: transferred } = gain;
  const parts = decompose(gain);
  return {
    measured: [
      ['Source weights, classifier fitted', measured(gain, source.reference), measured(gain, source.chosen)],
      [
        'Weights inherited after joint transfer',
        measured(gain, transferred.reference),
        measured(gain, transferred.chosen),
      ],
      [
        `After ${Math.round(100 * gain.finetuned_share)}% of finetuning`,
        'not measured',
        measured(gain, gain.finetuned),
      ],
    ],
    parts: parts && [
      ['Architecture (mean of both orders)', signed(parts.architecture)],
      ['Weights: joint transfer (mean of both orders)', signed(parts.weights)],
      ['Finetuning, its first part', parts.finetuning === null ? 'not measured' : signed(parts.finetuning)],
    ],
    orders: parts && [
      [
        'Architecture',
        signed(source.chosen! - source.reference!),
        signed(transferred.chosen! - transferred.reference!),
      ],
      [
        'Weights',
        signed(transferred.reference! - source.reference!),
        signed(transferred.chosen! - source.chosen!),
      ],
    ],
  };
}

/** Why the chosen architecture was chosen; null where the job did not tell. */
export function choiceTold({ job: { gain } }: Subject): string | null {
  if (gain?.choice === undefined) return null;
  if (gain.choice === null)
    return 'The best architecture that the search found is the one that weights-only adaptation uses.';
  const { macs, less, error, taken } = gain.choice;
  const two = `The best architecture that the search found (${millions(macs)} MACs) and the one that weights-only adaptation uses were compared with their inherited weights`;
  if (gain.metric === 'source_top1')
    return `${two}, by measures that want no labels of the target. ${taken ? 'They spoke for the former: it was taken.' : 'They did not agree on the former, so the latter was kept.'}`;
  return (
    `${two}, on the same validation images: the loss of the former is ${less < 0 ? 'lower' : 'higher'} by ` +
    `${Math.abs(less).toPrecision(2)} (standard error of the difference ${error === null ? 'unknown, from one image' : error.toPrecision(2)}). ` +
    (taken
      ? 'That is more than three standard errors, so it was taken.'
      : 'That is not lower by three standard errors, so the latter was kept: what a search cannot show is not bought.')
  );
}

/** What the delivered network gained over weights-only adaptation, on test images; null where there is none. */
export function testGain({ manifest, card }: Subject): string | null {
  if (!card.baseline) return null;
  const quality = qualityOf(manifest.metrics);
  const [own, other] = [quality.of(manifest.metrics), quality.of(card.baseline.metrics)];
  if (!own || !other) return null;
  const macs = manifest.macs / card.baseline.macs;
  return (
    `On ${quality.split} images the delivered network has ${quality.name} ${quality.show(own.value)}, ` +
    `weights-only adaptation (WP&F) ${quality.show(other.value)}, at ${macs.toFixed(2)} times its multiply-accumulates.`
  );
}

const W = 720;

export function gainPicture({ job: { gain } }: Subject): Picture | null {
  const parts = gain && decompose(gain);
  if (!parts) return null;
  const steps = [
    { name: 'reference, source weights', from: 0, to: parts.start, colour: 'f-dot' },
    ...(
      [
        ['architecture', parts.architecture, 'f-largest'],
        ['weights', parts.weights, 'f-front'],
        ['finetuning', parts.finetuning, 'f-chosen'],
      ] as const
    ).flatMap(([name, by, colour]) => (by === null ? [] : [{ name, by, colour }])),
  ];
  let at = 0;
  const bars = steps.map((step) => {
    const from = 'by' in step ? at : 0;
    at = 'by' in step ? at + step.by : step.to;
    return {
      name: step.name,
      colour: step.colour,
      from,
      to: at,
      label: 'by' in step ? signed(step.by) : percent(at),
    };
  });
  bars.push({ name: 'chosen, so far', colour: 'f-dot', from: 0, to: at, label: percent(at) });
  const place = { left: 82, top: 84, width: 614, height: 230 };
  const scale = scaleOf([0, ...bars.map(({ to }) => to)], 5);
  const none = { scale: { min: 0, max: bars.length, ticks: [] }, label: '', show: String };
  const metric = QUALITY_NAMES[gain.metric] ?? gain.metric;
  const { x, y, frame } = plot(place, none, { scale, label: metric, show: percent });
  const title = 'Where the gain came from';
  const body = [
    text(82, 28, title, { class: 'title' }),
    text(82, 47, `on ${gain.images} validation images, before the networks were finished`, {
      class: 'quiet',
    }),
    frame,
    ...bars.map(({ name, colour, from, to, label }, i) => {
      const [left, right] = [x(i + 0.14), x(i + 0.86)];
      const top = Math.min(y(from), y(to));
      const next = i < bars.length - 1 ? line('s-quiet', [right, y(to)], [x(i + 1.14), y(to)], '2 3') : '';
      return [
        rect(colour, left, top, right - left, Math.max(1, Math.abs(y(from) - y(to)))),
        text((left + right) / 2, top - 6, label, { anchor: 'middle', class: 'strong' }),
        text((left + right) / 2, place.top + place.height + 20, name, { anchor: 'middle', class: 'small' }),
        next,
      ].join('');
    }),
  ];
  return {
    title,
    description: `${bars.map(({ name, label }) => `${name} ${label}`).join(', ')}; ${metric} on validation images.`,
    width: W,
    height: Number(n(place.top + place.height + 40)),
    body: body.join('\n'),
  };
}
