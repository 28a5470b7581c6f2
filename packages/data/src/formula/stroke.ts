/** Glyphs: one to four pen strokes, straight, curved or looped, often starting where an earlier one passed. */
import type { Rng } from '@ntaa/random';
import { bell, between, chance, cosTurn, pick, sinTurn } from './arithmetic.js';
import type { Family } from './family.js';

const STEPS = 10;

interface Pen {
  kind: 'line' | 'curve' | 'arc';
  /** Control points (line, curve), or centre, radii, start and sweep in turns (arc). */
  values: number[];
}

export const stroke: Family = (rng) => {
  const pens: Pen[] = [];
  const count = 1 + rng.int(4);
  for (let k = 0; k < count; k++) pens.push(samplePen(rng, pens));
  const colours = chance(rng, 0.7) ? 1 : 2;
  return (canvas, instance, inks) => {
    const width = between(instance, 0.08, 0.3);
    pens.forEach((pen, k) => canvas.stroke(trace(instance, pen), width, inks[k % colours]!));
  };
};

function samplePen(rng: Rng, earlier: readonly Pen[]): Pen {
  const kind = pick(rng, ['line', 'curve', 'curve', 'arc'] as const);
  const place = (): number => between(rng, -0.8, 0.8);
  if (kind === 'arc') {
    const radius = between(rng, 0.2, 0.65);
    const sweep = chance(rng, 0.35) ? 1 : between(rng, 0.25, 0.9);
    const centre = (): number => between(rng, -0.8 + radius, 0.8 - radius);
    return {
      kind,
      values: [centre(), centre(), radius, radius * between(rng, 0.6, 1.2), rng.uniform(), sweep],
    };
  }
  const values: number[] = [];
  const points = kind === 'line' ? 2 + rng.int(2) : 3 + rng.int(3);
  for (let k = 0; k < points; k++) values.push(place(), place());
  const anchor = earlier.findLast((pen) => pen.kind !== 'arc');
  if (anchor && chance(rng, 0.6)) {
    const from = 2 * rng.int(anchor.values.length / 2);
    values[0] = anchor.values[from]!;
    values[1] = anchor.values[from + 1]!;
  }
  return { kind, values };
}

/** The pen's polyline, every control value a little off. */
function trace(rng: Rng, pen: Pen): number[] {
  const values = pen.values.map((v) => v + 0.18 * bell(rng));
  if (pen.kind === 'line') return values;
  if (pen.kind === 'curve') return spline(values);
  const [cx, cy, rx, ry, start, sweep] = values as [number, number, number, number, number, number];
  const points: number[] = [];
  for (let k = 0; k <= 2 * STEPS; k++) {
    const t = start + (sweep * k) / (2 * STEPS);
    points.push(cx + rx * cosTurn(t), cy + ry * sinTurn(t));
  }
  return points;
}

/** Uniform quadratic B-spline through the midpoints of the control polygon, with its end points. */
function spline(values: readonly number[]): number[] {
  const points: number[] = [];
  const last = values.length / 2 - 1;
  const at = (k: number, c: number): number => values[2 * k + c]!;
  for (let k = 1; k < last; k++) {
    for (let s = 0; s <= STEPS; s++) {
      const t = s / STEPS;
      for (let c = 0; c < 2; c++) {
        const from = k === 1 ? at(0, c) : (at(k - 1, c) + at(k, c)) / 2;
        const to = k === last - 1 ? at(last, c) : (at(k, c) + at(k + 1, c)) / 2;
        points.push((1 - t) * (1 - t) * from + 2 * t * (1 - t) * at(k, c) + t * t * to);
      }
    }
  }
  return points;
}
