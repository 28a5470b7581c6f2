/** How a job learned: losses of its trainings, and the quality of architectures as the shared weights got better. */
import type { LossCurve } from '@ntaa/contracts';
import { scaleOf } from '@ntaa/nas';
import { short } from '../markdown.js';
import { legend, plot, type Place } from './axes.js';
import type { Subject } from './input.js';
import { circle, line, polyline, text, type Colour, type Picture } from './picture.js';
import { qualityOf, QUALITY_NAMES } from './quality.js';

const W = 720;
const PANEL = 292;
const LOOKS: Readonly<Record<LossCurve['network'], { colour: Colour; dash: string; name: string }>> = {
  supernet: { colour: 'largest', dash: '', name: 'largest network of the supernet' },
  finalist: { colour: 'dot', dash: '2 4', name: 'finalist not chosen' },
  chosen: { colour: 'chosen', dash: '', name: 'chosen' },
  baseline: { colour: 'baseline', dash: '8 4', name: 'WP&F baseline' },
};

interface Line {
  colour: Colour;
  dash: string;
  name: string;
  points: (readonly [number, number])[];
  /** Each is an occasion of its own. */
  dotted?: true;
}

const lossLine = ({ network, images, loss }: LossCurve): Line => ({
  ...LOOKS[network],
  points: images.map((x, i) => [x, loss[i]!] as const),
});

interface Panel {
  title: string;
  label: string;
  show(value: number): string;
  lines: Line[];
}

const known = ({ lines }: Panel): boolean => lines.some(({ points }) => points.length > 0);

function panelsOf({ job, manifest }: Subject): Panel[] {
  const { loss, judged } = job.curves;
  const quality = QUALITY_NAMES[job.gain?.metric ?? ''] ?? qualityOf(manifest.metrics).name;
  const losses = { label: 'loss', show: (value: number) => String(Number(value.toPrecision(3))) };
  const round = (name: string, colour: Colour, dash: string, key: 'best' | 'mean'): Line => ({
    ...{ name, colour, dash, dotted: true },
    points: judged.map((entry) => [entry.images, entry[key]] as const),
  });
  return [
    {
      ...{ title: 'Joint transfer: training loss', ...losses },
      lines: loss.filter(({ network }) => network === 'supernet').map(lossLine),
    },
    {
      title: `With inherited weights: ${quality}`,
      label: 'on validation images',
      show: (value: number) => `${Math.round(100 * value)}%`,
      lines: [
        round('best of those judged then', 'front', '', 'best'),
        round('their mean', 'dot', '4 4', 'mean'),
      ],
    },
    {
      ...{ title: 'Finetuning: training loss', ...losses },
      lines: loss
        .filter(({ network }) => network !== 'supernet')
        .sort((a, b) => ORDER.indexOf(a.network) - ORDER.indexOf(b.network))
        .map(lossLine),
    },
  ].filter(known);
}
/** Later ones are drawn over earlier ones. */
const ORDER: LossCurve['network'][] = ['supernet', 'finalist', 'baseline', 'chosen'];

/** Null where nothing was recorded. */
export function curvesPicture(subject: Subject): Picture | null {
  const panels = panelsOf(subject);
  if (panels.length === 0) return null;
  const title = 'Learning curves';
  return {
    title,
    description: panels.map(({ title, lines }) => `${title}: ${lines.map(told).join('; ')}.`).join(' '),
    width: W,
    height: 40 + PANEL * panels.length,
    body: [
      text(82, 28, title, { class: 'title' }),
      ...panels.map((panel, i) => drawn(panel, { left: 82, top: 76 + PANEL * i, width: 604, height: 150 })),
    ].join('\n'),
  };
}

function told({ name, points }: Line): string {
  const [first, last] = [points[0], points.at(-1)];
  if (!first || !last) return `${name}: nothing`;
  return `${name} from ${Number(first[1].toPrecision(3))} to ${Number(last[1].toPrecision(3))}`;
}

function drawn({ title, label, show, lines }: Panel, place: Place): string {
  const points = lines.flatMap((line) => line.points);
  const { x, y, frame } = plot(
    place,
    {
      scale: scaleOf(
        points.map(([images]) => images),
        6,
      ),
      label: 'image passes',
      show: short,
    },
    {
      scale: scaleOf(
        points.map(([, value]) => value),
        4,
      ),
      label,
      show,
    },
  );
  const names = new Map(lines.map(({ name, colour, dash }) => [name, { name, colour, dash }]));
  return [
    text(place.left, place.top - 14, title, { class: 'strong' }),
    frame,
    ...lines.map(({ colour, dash, points, dotted }) => {
      const at = points.map(([a, b]) => [x(a), y(b)] as const);
      const dots = dotted ? at.map(([a, b]) => circle(`f-${colour}`, a, b, 3)).join('') : '';
      return polyline(`s-${colour}`, at, dash) + dots;
    }),
    legend(
      [...names.values()].map(({ name, colour, dash }) => ({
        name,
        symbol: (a: number, b: number) => line(`s-${colour}`, [a - 9, b], [a + 9, b], dash),
      })),
      { left: place.left, top: place.top + place.height + 66, width: place.width },
    ),
  ].join('\n');
}

/** Where every curve began and ended. */
export function curveRows(subject: Subject): string[][] {
  return panelsOf(subject).flatMap(({ title, lines, show }) =>
    lines
      .filter(({ points }) => points.length > 0)
      .map(({ name, points }) => {
        const [first, last] = [points[0]!, points.at(-1)!];
        return [title, name, show(first[1]), show(last[1]), Math.round(last[0]).toLocaleString('en-US')];
      }),
  );
}
