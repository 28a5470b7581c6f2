/**
 * Radial contours, after RCDB (Kataoka et al., "Replacing labeled real-image datasets with auto-generated contours",
 * CVPR 2022): nested closed curves whose radius is a sum of harmonics.
 */
import { bell, between, chance, cosTurn, sinTurn } from './arithmetic.js';
import type { Family } from './family.js';

const VERTICES = 48;

export const contour: Family = (rng) => {
  const rings = 1 + rng.int(5);
  const inner = between(rng, 0.15, 0.6);
  const filled = chance(rng, 0.5);
  const width = between(rng, 0.06, 0.16);
  const aspect = between(rng, 0.6, 1);
  const twist = chance(rng, 0.4) ? between(rng, -0.15, 0.15) : 0;
  const harmonics = Array.from({ length: 1 + rng.int(3) }, () => ({
    frequency: 1 + rng.int(8),
    amplitude: between(rng, 0.05, 0.3),
    phase: rng.uniform(),
  }));
  // Zero sharpens nothing; above, the radius is folded into points or bays, which makes stars and clovers of flowers.
  const fold = chance(rng, 0.4) ? (chance(rng, 0.5) ? 1 : -1) : 0;

  return (canvas, instance, inks) => {
    const waves = harmonics.map(({ frequency, amplitude, phase }) => ({
      frequency,
      amplitude: amplitude * (1 + 0.35 * bell(instance)),
      phase: phase + 0.06 * bell(instance),
    }));
    const squeeze = aspect * (1 + 0.15 * bell(instance));
    const thickness = width * (1 + 0.5 * bell(instance));
    for (let ring = 0; ring < rings; ring++) {
      const scale = 0.85 * (1 - ((1 - inner) * ring) / rings);
      const points: number[] = [];
      for (let v = 0; v < VERTICES; v++) {
        const t = v / VERTICES;
        let radius = 1;
        for (const wave of waves) {
          const s = sinTurn(wave.frequency * t + wave.phase + twist * ring);
          radius += wave.amplitude * (fold === 0 ? s : fold * (2 * Math.abs(s) - 1));
        }
        points.push(scale * radius * cosTurn(t), scale * radius * squeeze * sinTurn(t));
      }
      if (filled) canvas.fill(points, inks[ring % inks.length]!);
      else canvas.stroke(points, thickness, inks[ring % 2]!, true);
    }
  };
};
