import { Rng } from '@ntaa/random';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rankGallery, unitRows, type Boxes } from './reid-protocol.js';

/** The protocol said another way: count, for every match, who stands before it. No sorting, nothing shared. */
function slow({ embeddings, identities, cameras, roles }: Boxes, query: number): number | null {
  const n = identities.length;
  const width = embeddings.length / n;
  const everyone = !roles || !Array.from(roles).includes(1);
  const likeness = (i: number) =>
    Array.from(
      { length: width },
      (_, c) => embeddings[query * width + c]! * embeddings[i * width + c]!,
    ).reduce((a, b) => a + b, 0);
  const inGallery = (i: number) => everyone || roles![i] === 2;
  const dropped = (i: number) => identities[i] === identities[query] && cameras[i] === cameras[query];
  const asked: number[] = [];
  for (let i = 0; i < n; i++) if (inGallery(i) && !dropped(i)) asked.push(i);
  const matches = asked.filter((i) => identities[i] === identities[query]);
  if (matches.length === 0) return null;
  const precisions = matches.map((m) => {
    const strangers = asked.filter((i) => !matches.includes(i) && likeness(i) >= likeness(m)).length;
    const friends = matches.filter(
      (i) => likeness(i) > likeness(m) || (likeness(i) === likeness(m) && i <= m),
    ).length;
    return friends / (friends + strangers);
  });
  return precisions.reduce((a, b) => a + b) / matches.length;
}

/** Boxes on a line through likeness: an embedding (cos t, sin t) is nearer to (1, 0) the smaller t is. */
function boxes(rows: readonly [angle: number, identity: number, camera: number, role?: number][]): Boxes {
  return {
    embeddings: Float32Array.from(rows.flatMap(([t]) => [Math.cos(t), Math.sin(t)])),
    identities: rows.map(([, identity]) => identity),
    cameras: rows.map(([, , camera]) => camera),
    roles: rows.some(([, , , role]) => role) ? rows.map(([, , , role]) => role ?? 0) : undefined,
  };
}

describe('the Market-1501 protocol by hand', () => {
  it('averages precision over the matches and takes the place of the first', () => {
    const { precisions, places, skipped, protocol, gallery } = rankGallery(
      boxes([
        [0, 7, 1, 1], // the query
        [0.1, 8, 1, 2], // a stranger before all matches
        [0.2, 7, 2, 2],
        [0.3, 9, 2, 2],
        [0.4, 7, 3, 2],
      ]),
    );
    expect(precisions[0]).toBeCloseTo((1 / 2 + 2 / 4) / 2, 6);
    expect([...places]).toEqual([1]);
    expect({ skipped, protocol, gallery }).toEqual({ skipped: 0, protocol: 'given', gallery: 4 });
  });

  it('drops the same identity by the same camera, and keeps other identities of that camera', () => {
    const { precisions, places } = rankGallery(
      boxes([
        [0, 7, 1, 1],
        [0.05, 7, 1, 2], // dropped: it would be a first match
        [0.1, 8, 1, 2], // same camera, another person: stays
        [0.2, 7, 2, 2],
      ]),
    );
    expect(precisions[0]).toBeCloseTo(1 / 2, 6);
    expect([...places]).toEqual([1]);
  });

  it('skips queries without a match by another camera', () => {
    const ranking = rankGallery(
      boxes([
        [0, 7, 1, 1],
        [0.1, 7, 1, 2],
        [0.2, 8, 2, 2],
        [0.3, 8, 3, 1],
      ]),
    );
    expect(ranking).toMatchObject({ skipped: 1 });
    expect(ranking.precisions).toHaveLength(1);
  });

  it('lets ties and broken embeddings count against us', () => {
    const same = boxes([
      [0, 7, 1, 1],
      [0, 7, 2, 2],
      [0, 8, 2, 2],
    ]);
    expect(rankGallery(same).precisions[0]).toBeCloseTo(1 / 2, 6);
    same.embeddings.fill(NaN);
    expect(rankGallery(same).precisions[0]).toBeCloseTo(1 / 2, 6);
  });

  it('asks every image against all others where the dataset names no queries', () => {
    const ranking = rankGallery(
      boxes([
        [0, 1, 1],
        [0.1, 1, 2],
        [0.9, 2, 1],
        [1, 2, 2],
      ]),
    );
    expect(ranking).toMatchObject({ protocol: 'all-to-all', gallery: 4, skipped: 0 });
    expect([...ranking.precisions]).toEqual([1, 1, 1, 1]);
  });
});

it('equals the slow implementation on any boxes', () => {
  const box = fc.tuple(fc.nat(3), fc.nat(2), fc.nat(2));
  fc.assert(
    fc.property(
      fc.array(box, { minLength: 2, maxLength: 24 }),
      fc.boolean(),
      fc.nat(),
      (rows, given, seed) => {
        const rng = new Rng('boxes', seed);
        const embeddings = unitRows(
          Float32Array.from({ length: 3 * rows.length }, () => rng.normal()),
          3,
        );
        const all: Boxes = {
          embeddings,
          identities: rows.map(([identity]) => identity),
          cameras: rows.map(([, camera]) => camera),
          roles: given ? rows.map(([, , role]) => role) : undefined,
        };
        const everyone = !given || !rows.some(([, , role]) => role === 1);
        const queries = rows.flatMap(([, , role], i) => (everyone || role === 1 ? [i] : []));
        const expected = queries.flatMap((query) => slow(all, query) ?? []);
        const { precisions, skipped } = rankGallery(all);
        expect(precisions).toHaveLength(expected.length);
        expected.forEach((value, i) => expect(precisions[i]).toBeCloseTo(value, 5));
        expect(skipped).toBe(queries.length - expected.length);
      },
    ),
    { numRuns: 300 },
  );
});
