/** What the picture of a search shows, and its scatter plot in a terminal. */
import type { Candidate, JobResult } from '@ntaa/contracts';
import { scaleOf, type Scale } from '@ntaa/nas';
import { percent, short } from './terminal.js';

interface Point {
  readonly macs: number;
  /** 0..1. */
  readonly accuracy: number;
}
/** A network measured on the test split, with its 95% interval. */
interface Measured extends Point {
  readonly name: string;
  readonly interval: readonly [number, number];
  readonly mark: 'ntaa' | 'baseline' | 'largest';
}
export interface Front {
  /** Every architecture evaluated inside the supernet, on validation images. */
  readonly evaluated: readonly Point[];
  /** Those that no other beats in both, by MACs. */
  readonly pareto: readonly Point[];
  /** Finished networks, on test images. */
  readonly measured: readonly Measured[];
}

export function frontOf(candidates: readonly Candidate[], result: JobResult): Front {
  const point = ({ macs, metrics }: Candidate): Point => ({ macs, accuracy: metrics['top1'] ?? NaN });
  const outcome = (
    name: string,
    mark: Measured['mark'],
    from: { macs: number; metrics: JobResult['metrics'] } | undefined,
  ): Measured[] => {
    const metrics = (from?.metrics ?? {}) as Record<string, unknown>;
    const top1 = Number(metrics['top1']);
    if (!from || Number.isNaN(top1)) return [];
    const interval = metrics['top1_interval'] as [number, number];
    return [{ name, mark, macs: from.macs, accuracy: top1, interval }];
  };
  return {
    evaluated: candidates.filter((c) => !c.pareto).map(point),
    pareto: candidates
      .filter((c) => c.pareto)
      .map(point)
      .sort((a, b) => a.macs - b.macs),
    measured: [
      ...outcome('NTAA', 'ntaa', result),
      ...outcome('WP&F baseline', 'baseline', result.baseline),
      ...outcome('largest subnet', 'largest', result.largest),
    ],
  };
}

function scales(front: Front, xTicks: number, yTicks: number): { x: Scale; y: Scale } {
  const all = [...front.evaluated, ...front.pareto, ...front.measured];
  const bounds = front.measured.flatMap((m) => m.interval);
  return {
    x: scaleOf(
      all.map((p) => p.macs),
      xTicks,
    ),
    y: scaleOf([...all.map((p) => p.accuracy), ...bounds], yTicks),
  };
}

const MARKS = { ntaa: '◆', baseline: '■', largest: '▲' } as const;

/** The plot as text, `width` x `height` characters without its axes. */
export function drawFront(front: Front, width = 60, height = 14): string {
  if (front.evaluated.length + front.pareto.length + front.measured.length === 0) return '';
  const { x, y } = scales(front, 5, 4);
  const grid = Array.from({ length: height }, () => new Array<string>(width).fill(' '));
  const column = (macs: number): number => Math.round(((macs - x.min) / (x.max - x.min)) * (width - 1));
  const row = (a: number): number => height - 1 - Math.round(((a - y.min) / (y.max - y.min)) * (height - 1));
  // Later ones cover earlier ones.
  for (const p of front.evaluated) grid[row(p.accuracy)]![column(p.macs)] = '·';
  for (const p of front.pareto) grid[row(p.accuracy)]![column(p.macs)] = '●';
  for (const p of front.measured) grid[row(p.accuracy)]![column(p.macs)] = MARKS[p.mark];

  const labels = new Map(y.ticks.map((tick) => [row(tick), percent(tick)]));
  const lines = grid.map((cells, r) => {
    const label = labels.get(r);
    return `${(label ?? '').padStart(8)} ${label === undefined ? '│' : '┤'}${cells.join('')}`;
  });
  const axis = [...'─'.repeat(width)];
  let names = '';
  for (const tick of x.ticks) {
    const at = column(tick);
    axis[at] = '┬';
    const label = short(tick);
    names = names.padEnd(Math.max(0, Math.min(at - (label.length >> 1), width - label.length))) + label;
  }
  const legend = front.measured.map((m) => `${MARKS[m.mark]} ${m.name}`).join('   ');
  return [
    ...lines,
    `${' '.repeat(9)}└${axis.join('')}`,
    `${' '.repeat(10)}${names}  MACs`,
    `${' '.repeat(10)}· evaluated   ● Pareto front  (validation)`,
    `${' '.repeat(10)}${legend}  (test)`,
  ].join('\n');
}
