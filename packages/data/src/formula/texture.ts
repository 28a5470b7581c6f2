/** Textures over the whole image: stripes, checks, rings, cells and clouds, bent by smooth noise. */
import { bell, between, chance, cosTurn, hash2, pick, sinTurn, valueNoise } from './arithmetic.js';
import type { Family } from './family.js';

type Pattern = (x: number, y: number, seed: number) => number;

const PATTERNS: readonly Pattern[] = [
  (x) => 0.5 + 0.5 * sinTurn(x),
  (x, y) => 0.5 + 0.5 * sinTurn(x) * sinTurn(y),
  (x, y) => 0.5 + 0.5 * sinTurn(Math.sqrt(x * x + y * y)),
  (x, y, seed) => valueNoise(2 * x, 2 * y, seed),
  (x, y, seed) =>
    Math.abs(2 * valueNoise(x, y, seed) - 1) * 0.6 + Math.abs(2 * valueNoise(2 * x, 2 * y, seed) - 1) * 0.4,
  (x, y, seed) => Math.min(1, cellDistance(x, y, seed)),
];

export const texture: Family = (rng) => {
  const pattern = pick(rng, PATTERNS);
  const frequency = between(rng, 1, 5);
  const stretch = between(rng, 0.4, 1);
  const angle = rng.uniform();
  const warp = chance(rng, 0.6) ? between(rng, 0.1, 0.8) : 0;
  // How abruptly the two colours meet: 1 is smooth, 8 nearly a step.
  const contrast = pick(rng, [1, 2, 8]);
  const level = between(rng, 0.35, 0.65);
  return (canvas, instance, inks) => {
    const seed = instance.uint32();
    const turned = angle + 0.06 * bell(instance);
    const [c, s] = [cosTurn(turned), sinTurn(turned)];
    const fx = frequency * (1 + 0.2 * bell(instance));
    const fy = fx * stretch;
    const [px, py] = [between(instance, -3, 3), between(instance, -3, 3)];
    const ink = { ...inks[0]!, to: inks[1]!.from };
    canvas.flood(ink, (x, y) => {
      const bend = warp === 0 ? 0 : warp * (valueNoise(2 * x, 2 * y, seed ^ 1) - 0.5);
      const v = pattern((c * x - s * y + bend) * fx + px, (s * x + c * y - bend) * fy + py, seed);
      return Math.min(1, Math.max(0, (v - level) * contrast + 0.5));
    });
  };
};

/** Distance to the nearest of one random point a lattice cell (Worley noise). */
function cellDistance(x: number, y: number, seed: number): number {
  const x0 = Math.floor(x);
  const y0 = Math.floor(y);
  let nearest = 9;
  for (let j = y0 - 1; j <= y0 + 1; j++) {
    for (let i = x0 - 1; i <= x0 + 1; i++) {
      const dx = i + hash2(i, j, seed) - x;
      const dy = j + hash2(i, j, seed ^ 0x5bd1e995) - y;
      nearest = Math.min(nearest, dx * dx + dy * dy);
    }
  }
  return Math.sqrt(nearest);
}
