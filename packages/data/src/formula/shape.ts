/** Layouts of filled shapes: a body perhaps, and parts on it, placed singly, as a mirrored pair or around a circle. */
import type { Rng } from '@ntaa/random';
import { bell, between, chance, cosTurn, pick, sinTurn } from './arithmetic.js';
import type { Family } from './family.js';

interface Part {
  /** Corners on the unit circle (radius alternating with `waist` for stars); 20 corners are an ellipse. */
  corners: number;
  waist: number;
  x: number;
  y: number;
  rx: number;
  ry: number;
  angle: number;
  ink: number;
  layout: 'single' | 'pair' | 'circle';
  copies: number;
  outline: boolean;
}

export const shape: Family = (rng) => {
  const parts: Part[] = [];
  if (chance(rng, 0.6)) parts.push(samplePart(rng, true));
  const count = 1 + rng.int(4);
  for (let k = 0; k < count; k++) parts.push(samplePart(rng, false));
  return (canvas, instance, inks) => {
    for (const part of parts) {
      const moved = jitter(instance, part);
      for (const points of place(moved)) {
        if (part.outline) canvas.stroke(points, 0.12, inks[part.ink]!, true);
        else canvas.fill(points, inks[part.ink]!);
      }
    }
  };
};

function samplePart(rng: Rng, body: boolean): Part {
  const size = body ? between(rng, 0.6, 0.9) : between(rng, 0.08, 0.4);
  const star = chance(rng, 0.2);
  return {
    corners: pick(rng, [20, 20, 3, 4, 4, 5, 6, 10]) * (star ? 2 : 1),
    waist: star ? between(rng, 0.4, 0.8) : 1,
    x: body ? 0 : between(rng, -0.65, 0.65),
    y: body ? 0 : between(rng, -0.65, 0.65),
    rx: size,
    ry: size * between(rng, 0.4, 1.3),
    angle: chance(rng, 0.5) ? 0.125 * rng.int(8) : rng.uniform(),
    ink: body ? 0 : rng.int(4),
    layout: body ? 'single' : pick(rng, ['single', 'single', 'pair', 'pair', 'circle'] as const),
    copies: 3 + rng.int(4),
    outline: chance(rng, 0.2),
  };
}

function jitter(rng: Rng, part: Part): Part {
  return {
    ...part,
    x: part.x + 0.12 * bell(rng),
    y: part.y + 0.12 * bell(rng),
    rx: part.rx * (1 + 0.3 * bell(rng)),
    ry: part.ry * (1 + 0.3 * bell(rng)),
    angle: part.angle + 0.04 * bell(rng),
  };
}

/** The polygons of a part, one for each copy. */
function place(part: Part): number[][] {
  if (part.layout === 'single') return [polygon(part)];
  if (part.layout === 'pair') {
    const right = polygon({ ...part, x: Math.abs(part.x) });
    return [right, right.map((v, k) => (k % 2 === 0 ? -v : v))];
  }
  const upright = polygon({ ...part, x: 0.55, y: 0, rx: part.rx * 0.7, ry: part.ry * 0.7 });
  return Array.from({ length: part.copies }, (_, k) => {
    const [c, s] = [cosTurn(k / part.copies), sinTurn(k / part.copies)];
    const turned: number[] = [];
    for (let v = 0; v < upright.length; v += 2)
      turned.push(c * upright[v]! - s * upright[v + 1]!, s * upright[v]! + c * upright[v + 1]!);
    return turned;
  });
}

function polygon({ corners, waist, x, y, rx, ry, angle }: Part): number[] {
  const [c, s] = [cosTurn(angle), sinTurn(angle)];
  const points: number[] = [];
  for (let k = 0; k < corners; k++) {
    const radius = k % 2 === 0 ? 1 : waist;
    const px = rx * radius * cosTurn(k / corners);
    const py = ry * radius * sinTurn(k / corners);
    points.push(x + c * px - s * py, y + s * px + c * py);
  }
  return points;
}
