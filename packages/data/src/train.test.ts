import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Rng } from '@ntaa/random';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { png } from './fixtures.js';
import {
  augment,
  BatchLoader,
  channelStatistics,
  decodeImage,
  normalise,
  PackedImages,
  packImages,
  splitDataset,
  type AugmentPolicy,
  type PackOptions,
} from './index.js';

const still: AugmentPolicy = {
  flip: false,
  rotate: 0,
  scale: 0,
  translate: 0,
  color: 0,
  erase: 0,
  fill: 'edge',
};
const lively: AugmentPolicy = {
  flip: true,
  rotate: 20,
  scale: 0.3,
  translate: 0.2,
  color: 0.3,
  erase: 0.5,
  fill: 'edge',
};
const [mean, std] = [
  [0.4, 0.5, 0.6],
  [0.2, 0.25, 0.3],
];

describe('splitDataset', () => {
  type Row = {
    label: number;
    split: 'train' | 'validation' | 'test' | null;
    sha1: string;
    identity?: string;
  };
  const dataset = (rows: readonly Row[]) =>
    rows.map((row, i) => ({ ...row, path: `${row.label}/${String(i).padStart(4, '0')}` }));
  const row = fc.record(
    {
      label: fc.integer({ min: 0, max: 4 }),
      split: fc.constant(null),
      sha1: fc.nat(60).map(String),
      identity: fc.nat(40).map(String),
    },
    { requiredKeys: ['label', 'split', 'sha1'] },
  ) as fc.Arbitrary<Row>;

  it('uses every image once, keeps groups together, and ignores the order of the archive', () => {
    fc.assert(
      fc.property(fc.array(row, { minLength: 1, maxLength: 120 }), fc.nat(1000), (rows, seed) => {
        const samples = dataset(rows);
        const splits = splitDataset(samples, seed);
        const all = [...splits.train, ...splits.validation, ...splits.test];
        expect(all.toSorted((a, b) => a - b)).toEqual(samples.map((_, i) => i));
        for (const key of ['sha1', 'identity'] as const) {
          const home = new Map<string, string>();
          for (const [name, indices] of Object.entries(splits) as [string, number[]][])
            for (const i of indices) {
              const value = samples[i]![key];
              if (value === undefined) continue;
              expect(home.get(value) ?? name).toBe(name);
              home.set(value, name);
            }
        }
        const shuffled = new Rng(seed, 'test').shuffle([...samples]);
        const again = splitDataset(shuffled, seed);
        for (const name of ['train', 'validation', 'test'] as const)
          expect(again[name].map((i) => shuffled[i]!.path)).toEqual(
            splits[name].map((i) => samples[i]!.path),
          );
      }),
    );
  });

  it('is stratified, with every class in train and test', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 80 }), { minLength: 2, maxLength: 8 }),
        fc.nat(1000),
        (sizes, seed) => {
          const samples = dataset(
            sizes.flatMap((n, label) =>
              Array.from({ length: n }, (_, i) => ({ label, split: null, sha1: `${label} ${i}` })),
            ),
          );
          const splits = splitDataset(samples, seed);
          for (const [label, n] of sizes.entries()) {
            const count = (indices: number[]) => indices.filter((i) => samples[i]!.label === label).length;
            expect(count(splits.train)).toBeGreaterThanOrEqual(1);
            if (n >= 3) expect(count(splits.test)).toBeGreaterThanOrEqual(1);
            if (n >= 20)
              expect(Math.abs(count(splits.test) - 0.2 * n)).toBeLessThanOrEqual(1.5 + sizes.length);
            if (n >= 20) expect(Math.abs(count(splits.validation) - 0.15 * n)).toBeLessThanOrEqual(1.5);
          }
        },
      ),
    );
  });

  it('keeps given splits and carves the missing one out of train', () => {
    const samples = dataset(
      Array.from({ length: 100 }, (_, i) => ({
        label: i % 2,
        split: i < 80 ? 'train' : 'test',
        sha1: String(i),
      })),
    );
    const { train, validation, test } = splitDataset(samples, 7);
    expect(test.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i + 80));
    expect([train.length, validation.length]).toEqual([68, 12]);
    expect(splitDataset(samples, 8).validation).not.toEqual(validation);
    const whole = samples.map((sample, i) => ({
      ...sample,
      split: i < 10 ? ('validation' as const) : sample.split,
    }));
    expect(splitDataset(whole, 7)).toMatchObject({ train: { length: 70 }, validation: { length: 10 } });
  });

  it('always finds validation images, even where classes are tiny', () => {
    const samples = dataset(
      Array.from({ length: 60 }, (_, i) => ({ label: i % 20, split: null, sha1: String(i) })),
    );
    const { train, validation, test } = splitDataset(samples, 0);
    expect([train.length, validation.length, test.length]).toEqual([31, 9, 20]);
  });
});

describe('packed images', () => {
  const options: PackOptions = {
    width: 16,
    height: 12,
    fit: 'contain',
    kernel: 'cubic',
    background: { r: 1, g: 2, b: 3 },
  };
  const labels = Int32Array.from({ length: 40 }, (_, i) => i % 4);
  let root: string;
  let encoded: Buffer[];
  let samples: { path: string; offset: number; length: number }[];
  let packed: PackedImages;

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'ntaa-pack-'));
    encoded = await Promise.all(Array.from({ length: 40 }, (_, i) => png(i, 20 + i, 30 - (i % 9))));
    let offset = 0;
    samples = encoded.map(({ length }, i) => ({
      path: `${i}.png`,
      offset: (offset += length) - length,
      length,
    }));
    await writeFile(join(root, 'images.bin'), Buffer.concat(encoded));
    await packImages({ images: join(root, 'images.bin'), samples, options, out: join(root, 'packed') });
    packed = new PackedImages(join(root, 'packed'), 40, 16, 12);
  });
  afterAll(async () => {
    packed.close();
    await rm(root, { recursive: true, force: true });
  });

  it('are exactly what decodeImage gives', async () => {
    const out = new Uint8Array(packed.stride + 5);
    for (const [i, image] of encoded.entries()) {
      packed.read(i, out, 5);
      expect(Buffer.from(out.subarray(5)).equals(await decodeImage(image, options))).toBe(true);
    }
    expect(() => packed.read(40, out, 0)).toThrow(RangeError);
    expect(() => new PackedImages(join(root, 'packed'), 41, 16, 12)).toThrow(/not the/);
  });

  it('are not left half-done: the bad image is named', async () => {
    const bad = [...samples.slice(0, 3), { path: 'bad.png', offset: 5, length: 100 }];
    const out = join(root, 'failed');
    await expect(
      packImages({ images: join(root, 'images.bin'), samples: bad, options, out }),
    ).rejects.toThrow(/bad\.png/);
    await expect(readFile(out)).rejects.toThrow(/ENOENT/);
  });

  it('have the mean and standard deviation of their pixels', () => {
    const indices = [3, 1, 4, 15];
    const pixels = new Uint8Array(packed.stride);
    const values: number[] = [];
    for (const i of indices) {
      packed.read(i, pixels, 0);
      for (let at = 1; at < pixels.length; at += 3) values.push(pixels[at]! / 255);
    }
    const green = values.reduce((sum, x) => sum + x, 0) / values.length;
    const spread = Math.sqrt(values.reduce((sum, x) => sum + (x - green) ** 2, 0) / values.length);
    const statistics = channelStatistics(packed, indices);
    expect(statistics.mean[1]).toBeCloseTo(green, 10);
    expect(statistics.std[1]).toBeCloseTo(spread, 10);
    expect(channelStatistics(packed, indices.toReversed())).toEqual(statistics);
  });

  const loader = (policy: AugmentPolicy | null, seed = 1) =>
    new BatchLoader({
      packed,
      labels,
      indices: Array.from({ length: 30 }, (_, i) => i + 5),
      batchSize: 8,
      mean,
      std,
      seed: [seed, 'x'],
      policy,
    });

  it('come in batches that depend on seed and step only', () => {
    const [a, b] = [loader(lively), loader(lively)];
    const forward = [0, 1, 2, 3, 4, 5, 6, 7].map((step) => a.batch(step));
    const backward = [7, 6, 5, 4, 3, 2, 1, 0].map((step) => b.batch(step)).reverse();
    expect(backward).toEqual(forward);
    expect(loader(lively, 2).batch(0).indices).not.toEqual(forward[0]!.indices);
    // Two epochs of 30 images are 7.5 batches: every image comes exactly twice in the first 60 places.
    const drawn = forward.flatMap(({ indices }) => [...indices]).slice(0, 60);
    for (let i = 5; i < 35; i++) expect(drawn.filter((index) => index === i)).toHaveLength(2);
    for (const batch of forward) expect([...batch.labels]).toEqual([...batch.indices].map((i) => i % 4));
  });

  it('come in order, whole and unchanged for evaluation', () => {
    const batches = [...loader(lively).inOrder()];
    expect(batches.map(({ labels: { length } }) => length)).toEqual([8, 8, 8, 6]);
    expect(batches.flatMap(({ indices }) => [...indices])).toEqual(
      Array.from({ length: 30 }, (_, i) => i + 5),
    );
    const pixels = new Uint8Array(packed.stride);
    packed.read(5, pixels, 0);
    for (let i = 0; i < 30; i++)
      expect(batches[0]!.images[i]).toBeCloseTo((pixels[i]! / 255 - mean![i % 3]!) / std![i % 3]!, 5);
  });
});

describe('augment', () => {
  const size = { width: 9, height: 7 };
  const image = Uint8Array.from({ length: 189 }, (_, i) => (i * 37) % 256);
  const run = (policy: Partial<AugmentPolicy>, seed = 1, source = image) => {
    const out = new Float32Array(source.length + 2).fill(99);
    augment(source, size, new Rng(seed), { ...still, ...policy }, out, 1, mean!, std!);
    expect([out[0], out.at(-1)], 'nothing outside its place').toEqual([99, 99]);
    return out.subarray(1, -1);
  };
  const plain = new Float32Array(189);
  normalise(image, plain, 0, mean!, std!);
  const close = (a: Float32Array, b: Float32Array) => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));

  it('changes nothing when its policy allows nothing', () => {
    for (const fill of ['edge', [0, 0, 0]] as const) expect(close(run({ fill }), plain)).toBeLessThan(1e-5);
  });

  it('mirrors half of the images', () => {
    const mirrored = Float32Array.from(plain, (_, i) => {
      const [y, x, c] = [Math.floor(i / 27), Math.floor(i / 3) % 9, i % 3];
      return plain[y * 27 + (8 - x) * 3 + c]!;
    });
    const results = Array.from({ length: 40 }, (_, seed) => run({ flip: true }, seed));
    const flipped = results.filter((result) => close(result, mirrored) < 1e-5).length;
    expect(results.filter((result) => close(result, plain) < 1e-5)).toHaveLength(40 - flipped);
    expect(flipped).toBeGreaterThan(8);
    expect(flipped).toBeLessThan(32);
  });

  it('agrees with a slow, obvious warp', () => {
    const clamp = (v: number, most: number) => Math.max(0, Math.min(most, v));
    for (const fill of ['edge', [10, 20, 30]] as const) {
      const policy = { ...still, rotate: 30, scale: 0.3, translate: 0.3, fill };
      for (let seed = 0; seed < 20; seed++) {
        const rng = new Rng(seed);
        const draw = () => 2 * rng.uniform() - 1;
        const angle = (draw() * 30 * Math.PI) / 180;
        const zoom = 1.3 ** draw();
        const [shiftX, shiftY] = [draw() * 0.3 * 9, draw() * 0.3 * 7];
        const out = run(policy, seed);
        for (let y = 0; y < 7; y++)
          for (let x = 0; x < 9; x++) {
            const [u, v] = [(x - 4 - shiftX) / zoom, (y - 3 - shiftY) / zoom];
            const sx = 4 + u * Math.cos(angle) + v * Math.sin(angle);
            const sy = 3 - u * Math.sin(angle) + v * Math.cos(angle);
            for (let c = 0; c < 3; c++) {
              let value = 0;
              for (const [dx, dy] of [
                [0, 0],
                [1, 0],
                [0, 1],
                [1, 1],
              ] as const) {
                const [px, py] = [Math.floor(sx) + dx, Math.floor(sy) + dy];
                const weight = (1 - Math.abs(sx - px)) * (1 - Math.abs(sy - py));
                const inside = px >= 0 && py >= 0 && px < 9 && py < 7;
                value +=
                  weight *
                  (inside || fill === 'edge' ? image[(clamp(py, 6) * 9 + clamp(px, 8)) * 3 + c]! : fill[c]!);
              }
              expect(out[(y * 9 + x) * 3 + c]).toBeCloseTo((value / 255 - mean![c]!) / std![c]!, 4);
            }
          }
      }
    }
  });

  it('keeps as many views as it is told as crisp as the image', () => {
    const values = [0, 1, 2].map((c) => plain.filter((_, i) => i % 3 === c));
    const crisp = (out: Float32Array) =>
      out.every((x, i) => values[i % 3]!.some((value) => Math.abs(value - x) < 1e-5));
    const geometry = { rotate: 30, scale: 0.3, translate: 0.3, flip: true };
    const views = (share: number) =>
      Array.from({ length: 60 }, (_, seed) => run({ ...geometry, crisp: share }, seed));
    expect(views(1).every(crisp)).toBe(true);
    expect(new Set(views(1).map((out) => out.join())).size, 'shifted and mirrored').toBeGreaterThan(20);
    const some = views(0.5).filter(crisp).length;
    expect(some).toBeGreaterThan(15);
    expect(some).toBeLessThan(45);
    expect(views(0).some(crisp)).toBe(false);
  });

  it('keeps colours within 0..255 and leaves a grey image grey', () => {
    const grey = new Uint8Array(189).fill(120);
    for (let seed = 0; seed < 20; seed++) {
      const out = run({ color: 0.9 }, seed);
      const x = out.map((value, i) => (value * std![i % 3]! + mean![i % 3]!) * 255);
      expect(Math.min(...x)).toBeGreaterThan(-0.01);
      expect(Math.max(...x)).toBeLessThan(255.01);
      const g = run({ color: 0.9 }, seed, grey).map(
        (value, i) => (value * std![i % 3]! + mean![i % 3]!) * 255,
      );
      expect(Math.max(...g) - Math.min(...g)).toBeLessThan(0.01);
    }
  });

  it('erases one rectangle as often as it is told', () => {
    const erased = Array.from({ length: 200 }, (_, seed) => run({ erase: 0.4 }, seed)).filter((out) =>
      out.some((x, i) => x === 0 && plain[i] !== 0),
    ).length;
    expect(erased).toBeGreaterThan(50);
    expect(erased).toBeLessThan(110);
  });
});
