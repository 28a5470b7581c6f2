/** Quality against cost: every architecture that was judged, and the networks measured at the end. */
import { scaleOf } from '@ntaa/nas';
import { short } from '../markdown.js';
import { legend, plot } from './axes.js';
import { measuredNetworks, type Subject } from './input.js';
import { circle, line, n, polyline, rect, text, type Colour, type Picture } from './picture.js';
import { qualityOf } from './quality.js';

const W = 720;
const H = 470;
const PLACE = { left: 82, top: 60, width: 604, height: 286 };

/** Dots that do not lie on the front, at most: the page stays small after a hundred thousand candidates. */
const DOTS = 1000;

/** Points of the picture and rows of the table beside it. */
export function frontOf(subject: Subject) {
  const quality = qualityOf(subject.manifest.metrics);
  const points = subject.job.candidates
    .map((candidate) => ({ ...candidate, value: candidate.metrics[quality.key] ?? NaN }))
    .filter(({ value }) => Number.isFinite(value))
    .sort((a, b) => a.macs - b.macs);
  const measured = measuredNetworks(subject).flatMap(({ mark, name, network }) => {
    const found = quality.of(network.metrics);
    return found && Number.isFinite(found.value) ? [{ mark, name, macs: network.macs, ...found }] : [];
  });
  const others = points.filter(({ pareto }) => !pareto);
  const stride = Math.max(1, others.length / DOTS);
  const dots = Array.from(
    { length: Math.min(DOTS, others.length) },
    (_, i) => others[Math.floor(i * stride)]!,
  );
  return { quality, points, dots, front: points.filter(({ pareto }) => pareto).slice(0, DOTS), measured };
}

export function paretoPicture(subject: Subject): Picture {
  const { quality, points, dots, front, measured } = frontOf(subject);
  const selected = points.filter((point) => point.selected);
  const values = [...dots, ...front, ...selected, ...measured];
  const intervals = measured.flatMap(({ interval }) => interval ?? []);
  const { x, y, frame } = plot(
    PLACE,
    {
      scale: scaleOf(
        values.map(({ macs }) => macs),
        6,
      ),
      label: 'multiply-accumulates for one image',
      show: short,
    },
    {
      scale: scaleOf([...values.map(({ value }) => value), ...intervals], 5),
      label: quality.reversed ? `${quality.name} (lower is better)` : quality.name,
      show: quality.show,
      reversed: quality.reversed,
    },
  );
  const title = `${quality.name[0]!.toUpperCase()}${quality.name.slice(1)} against cost`;
  const at = (p: { macs: number; value: number }): [number, number] => [x(p.macs), y(p.value)];
  const body = [
    text(PLACE.left, 28, title, { class: 'title' }),
    text(PLACE.left, 47, 'each dot is one architecture of the supernet, with inherited weights', {
      class: 'quiet',
    }),
    frame,
    ...dots.map((p) => circle('f-dot', ...at(p), 3)),
    polyline('s-front', front.map(at)),
    ...front.map((p) => circle('f-front', ...at(p), 4)),
    ...selected.map((p) => ring(...at(p))),
    ...measured.map(
      ({ mark, macs, value, interval }) =>
        (interval ? line(`s-${mark}`, [x(macs), y(interval[0])], [x(macs), y(interval[1])]) : '') +
        shape(mark, x(macs), y(value)),
    ),
    legend(
      [
        { symbol: (a, b) => circle('f-dot', a, b, 3), name: 'judged' },
        { symbol: (a, b) => circle('f-front', a, b, 4), name: 'Pareto front' },
        ...(selected.length > 0 ? [{ symbol: ring, name: 'chosen, before finetuning (validation)' }] : []),
        ...measured.map(({ mark, name, interval }) => ({
          symbol: (a: number, b: number) => shape(mark, a, b),
          name: `${name} (${quality.split}${interval ? ', 95%' : ''})`,
        })),
      ],
      { left: PLACE.left, top: 412, width: W - PLACE.left },
    ),
  ];
  const told = measured.map(
    ({ name, macs, value }) => `${name}: ${quality.show(value)} at ${short(macs)} multiply-accumulates`,
  );
  const description = `${points.length} architectures judged on validation images, ${front.length} of them on the Pareto front. ${told.join('; ')}.`;
  return { title, description, width: W, height: H, body: body.join('\n') };
}

const ring = (x: number, y: number): string => circle('s-chosen', x, y, 7, 'fill="none" stroke-width="2"');

/** Shapes of about the same area around a point. */
function shape(mark: Colour, x: number, y: number): string {
  if (mark === 'baseline') return rect(`f-${mark}`, x - 6, y - 6, 12, 12);
  const corners = mark === 'chosen' ? [0, -9, 9, 0, 0, 9, -9, 0] : [0, -8, 8, 7, -8, 7];
  return `<polygon class="f-${mark}" points="${corners.map((c, i) => n(c + (i % 2 ? y : x))).join(' ')}"/>`;
}
