/** Which classes are taken for which, how far confidence can be trusted, and quality by slices. */
import type { ClassificationMetrics, Slice } from '@ntaa/contracts';
import { scaleOf, wilsonInterval } from '@ntaa/nas';
import { percent } from '../markdown.js';
import { plot } from './axes.js';
import { circle, line, n, polyline, rect, text, type Picture } from './picture.js';

const LEVELS = 8;
const NAME = 150;

/** Rows are true classes; a shade is the share of the row. Null where the matrix was not kept. */
export function confusionPicture(
  { confusion }: ClassificationMetrics,
  labels: readonly string[],
): Picture | null {
  const count = confusion?.length ?? 0;
  if (!confusion || count < 2) return null;
  const cell = Math.min(44, Math.max(9, 540 / count));
  const [left, top] = [NAME + 16, 96];
  const size = Math.min(12, 0.9 * cell);
  // One path a shade: a hundred classes have ten thousand cells.
  const paths = new Map<string, string>();
  const counts: string[] = [];
  confusion.forEach((row, i) => {
    const total = row.reduce((a, b) => a + b, 0);
    row.forEach((value, j) => {
      if (value === 0) return;
      const level = Math.ceil((LEVELS * value) / total);
      const opacity = Math.round(100 * (0.1 + (0.75 * level) / LEVELS)) / 100;
      const key = `${i === j ? 'f-front' : 'f-chosen'}" fill-opacity="${opacity}`;
      paths.set(key, `${paths.get(key) ?? ''}M${j} ${i}h1v1h-1z`);
      if (count <= 15)
        counts.push(
          text(left + (j + 0.5) * cell, top + (i + 0.5) * cell + 4, String(value), { anchor: 'middle' }),
        );
    });
  });
  const side = count * cell;
  const numbers = labels.map((_, k) => k).filter((k) => count <= 40 || k % 5 === 4 || k === 0);
  const body = [
    text(16, 28, 'Confusion matrix', { class: 'title' }),
    text(16, 47, 'rows: true class; columns: answer; darker: a larger share of the row', { class: 'quiet' }),
    ...labels.map((label, k) =>
      text(left - 8, top + (k + 0.5) * cell + size / 3, label, { anchor: 'end', size, longest: 18 }),
    ),
    ...numbers.map((k) =>
      text(left + (k + 0.5) * cell, top - 8, String(k + 1), {
        class: 'quiet',
        anchor: 'middle',
        size: Math.max(9, size),
      }),
    ),
    text(left, top - 28, 'answered as class number', { class: 'quiet small' }),
    rect('f-panel', left, top, side, side),
    `<g transform="translate(${n(left)} ${n(top)}) scale(${Math.round(1000 * cell) / 1000})">`,
    ...[...paths].map(([key, d]) => `<path class="${key}" d="${d}"/>`),
    '</g>',
    ...counts,
  ];
  const wrong = confusion.reduce((sum, row, i) => sum + row.reduce((a, b, j) => a + (i === j ? 0 : b), 0), 0);
  return {
    title: 'Confusion matrix',
    description: `${count} classes; ${wrong} test images were answered with another class than their own. The table beside it names the most frequent confusions.`,
    width: Math.max(560, left + side + 24),
    height: top + side + 24,
    body: body.join('\n'),
  };
}

/** True class, answer, images and their share of the true class; most frequent first. */
export function confusionRows(
  { confusion }: ClassificationMetrics,
  labels: readonly string[],
  most = 20,
): string[][] {
  const pairs = (confusion ?? []).flatMap((row, i) =>
    row.flatMap((count, j) =>
      i === j || count === 0 ? [] : [{ i, j, count, share: count / row.reduce((a, b) => a + b, 0) }],
    ),
  );
  return pairs
    .sort((a, b) => b.count - a.count || b.share - a.share || a.i - b.i || a.j - b.j)
    .slice(0, most)
    .map(({ i, j, count, share }) => [labels[i] ?? '', labels[j] ?? '', String(count), percent(share)]);
}

/** Accuracy of answers by their confidence. */
export function calibrationPicture({ calibration, ece }: ClassificationMetrics): Picture | null {
  if (!calibration || calibration.length === 0) return null;
  const scale = scaleOf([0, 1], 5);
  const { x, y, frame } = plot(
    { left: 82, top: 62, width: 380, height: 300 },
    { scale, label: 'confidence of the answer', show: percent },
    { scale, label: 'answers that were right', show: percent },
  );
  const title = 'Calibration';
  const body = [
    text(82, 28, title, { class: 'title' }),
    text(82, 47, 'on the dashed line confidence can be taken at its word', { class: 'quiet' }),
    frame,
    line('s-dot', [x(0), y(0)], [x(1), y(1)], '6 4'),
    polyline(
      's-front',
      calibration.map(({ confidence, accuracy }) => [x(confidence), y(accuracy)] as const),
    ),
    ...calibration.map(({ images, confidence, accuracy }) => {
      const [low, high] = wilsonInterval(Math.round(accuracy * images), images);
      return (
        line('s-front', [x(confidence), y(low)], [x(confidence), y(high)]) +
        circle('f-front', x(confidence), y(accuracy), 4)
      );
    }),
  ];
  return {
    title,
    description: `Accuracy in ${calibration.length} bins of confidence, with 95% intervals${ece === undefined ? '' : `; expected calibration error ${percent(ece)}`}.`,
    width: 500,
    height: 424,
    body: body.join('\n'),
  };
}

export const calibrationRows = ({ calibration = [] }: ClassificationMetrics): string[][] =>
  calibration.map(({ images, confidence, accuracy }) => [
    percent(confidence),
    percent(accuracy),
    String(images),
  ]);

/** Slices in a picture, at most. */
const SLICES = 60;

export function slicesPicture(slices: readonly Slice[], measure: string): Picture | null {
  if (slices.length === 0) return null;
  const shown = slices.slice(0, SLICES);
  const [left, top, row, width] = [250, 74, 24, 420];
  const x = (value: number): number => left + value * width;
  const height = row * shown.length;
  const title = 'Slices';
  const body = [
    text(16, 28, title, { class: 'title' }),
    text(16, 47, `${measure}, with 95% intervals`, { class: 'quiet' }),
    ...[0, 0.25, 0.5, 0.75, 1].map(
      (tick) =>
        line('s-line', [x(tick), top], [x(tick), top + height]) +
        text(x(tick), top + height + 18, percent(tick), { class: 'quiet', anchor: 'middle' }),
    ),
    ...shown.map(({ column, value, images, accuracy, accuracy_interval: [low, high] }, i) => {
      const y = top + (i + 0.5) * row;
      return [
        text(left - 12, y + 4, `${column}: ${value} (${images})`, { anchor: 'end', longest: 32 }),
        line('s-front', [x(low), y], [x(high), y]),
        circle('f-front', x(accuracy), y, 4),
      ].join('');
    }),
  ];
  return {
    title,
    description: `${measure} in ${shown.length} of ${slices.length} slices of the test images; the table beside it has the figures.`,
    width: 720,
    height: top + height + 34,
    body: body.join('\n'),
  };
}
