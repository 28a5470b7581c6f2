import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createHash } from 'node:crypto';
import type { Sharp } from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { idxFile, png, zip } from './fixtures.js';
import { inspectImage } from './image.js';
import { ingest, splitDataset, type Sample } from './index.js';
import { findNearDuplicates } from './near-duplicates.js';
import { sharp } from './sharp.js';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'ntaa-near-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** Real drawings: emoji of 64 px, among them the same in other skin tones. */
const require = createRequire(import.meta.url);
const folder = join(dirname(require.resolve('emoji-datasource-twitter/package.json')), 'img/twitter/64');
const EMOJI = readdirSync(folder).filter((name) => /^1f(3|4|5|6).*\.png$/.test(name));
const read = (name: string): Buffer => readFileSync(join(folder, name));
const look = async (bytes: Buffer, label = 'x') => ({
  label,
  sha1: createHash('sha1').update(bytes).digest('hex'),
  print: (await inspectImage(bytes)).print,
});

/** A picture with soft shapes, as photographs have. */
async function scene(seed: number): Promise<Buffer> {
  return sharp(await png(seed, 6, 5))
    .resize(150, 120, { kernel: 'cubic' })
    .png()
    .toBuffer();
}
const COPIES: Record<string, (image: Sharp) => Sharp> = {
  half: (image) => image.resize(75, 60),
  'two thirds': (image) => image.resize(100, 80).png(),
  larger: (image) => image.resize(300, 240),
  jpeg: (image) => image.jpeg({ quality: 80 }),
  webp: (image) => image.webp({ quality: 75 }),
  both: (image) => image.resize(110, 88).jpeg({ quality: 85 }),
};

describe('near-duplicates', () => {
  it('tells emoji apart, skin tones too, and finds their copies', async () => {
    const all = await Promise.all(EMOJI.map((name) => look(read(name))));
    expect(all.length).toBeGreaterThan(2000);
    const distinct = findNearDuplicates(all).repeats.filter((repeated) => repeated !== null);
    // Of all emoji: the same flag twice, and one man bowing twice.
    expect(distinct.length).toBeLessThanOrEqual(2);
    const some = EMOJI.filter((_, i) => i % 40 === 0);
    const found = async (copy: (image: Sharp) => Sharp): Promise<number> => {
      const copies = await Promise.all(
        some.map(async (name) => look(await copy(sharp(read(name))).toBuffer())),
      );
      const { repeats } = findNearDuplicates([...all, ...copies]);
      return repeats.slice(all.length).filter((of, i) => of === EMOJI.indexOf(some[i]!)).length / some.length;
    };
    expect(await found((image) => image.resize(40, 40))).toBeGreaterThan(0.95);
    expect(await found((image) => image.png({ palette: true }))).toBeGreaterThan(0.95);
    expect(await found((image) => image.webp({ quality: 90 }))).toBeGreaterThan(0.85);
  });

  it.each(Object.entries(COPIES))('finds copies of scenes: %s', async (_, copy) => {
    const scenes = await Promise.all(Array.from({ length: 30 }, (_, i) => scene(i)));
    const images = await Promise.all(scenes.map((bytes) => look(bytes)));
    const copies = await Promise.all(scenes.map(async (bytes) => look(await copy(sharp(bytes)).toBuffer())));
    const { repeats, uniform } = findNearDuplicates([...images, ...copies]);
    expect(repeats).toEqual([...images.map(() => null), ...copies.map((_, i) => i)]);
    expect(uniform).toEqual([]);
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 8])('looks at an image as EXIF orientation %i says', async (orientation) => {
    const turned = await sharp(await scene(1))
      .jpeg()
      .withMetadata({ orientation })
      .toBuffer();
    const upright = await sharp(turned).autoOrient().png().toBuffer();
    const others = [await scene(2), await scene(3)];
    const images = await Promise.all([...others, upright, turned].map((bytes) => look(bytes)));
    expect(findNearDuplicates(images).repeats).toEqual([null, null, null, 2]);
  });

  it('takes another label, one colour, and too few pixels for nothing that repeats', async () => {
    const [a, b] = [
      await scene(1),
      await sharp(await scene(1))
        .jpeg()
        .toBuffer(),
    ];
    const plain = (level: number, side = 64) =>
      sharp({ create: { width: side, height: side, channels: 3, background: { r: level, g: 9, b: 200 } } })
        .png()
        .toBuffer();
    const small = await png(5, 15, 15);
    const images = [
      ...[await look(a, 'cat'), await look(b, 'dog')],
      ...[await look(await plain(100)), await look(await plain(101))],
      ...[await look(small), await look(await sharp(small).webp({ lossless: true }).toBuffer())],
    ];
    expect(findNearDuplicates(images).repeats).toEqual(images.map(() => null));
  });

  it('does not tie a class together that looks the same throughout', async () => {
    const frames = await Promise.all(
      [95, 90, 85, 80].map(async (quality) => look(await sharp(await scene(7)).jpeg({ quality }).toBuffer())), // prettier-ignore
    );
    expect(findNearDuplicates(frames)).toEqual({ repeats: [null, null, null, null], uniform: ['x'] });
  });
});

describe('a dataset with copies', () => {
  const take = async (members: { path: string; data: Buffer }[]) => {
    const archive = join(root, 'archive');
    await writeFile(archive, zip(members));
    return ingest({ archive, out: join(root, 'out'), scratch: join(root, 'scratch') });
  };
  async function members(splits = ['']): Promise<{ path: string; data: Buffer }[]> {
    const all = [];
    for (let i = 0; i < 24; i++) {
      const name = `${i % 2 ? 'cat' : 'dog'}/${i}`;
      const data = await scene(i);
      all.push({ path: `${splits[0]}${name}.png`, data });
      const [kind, copy] = Object.entries(COPIES)[i % 6]!;
      all.push({ path: `${splits.at(-1)}${name} ${kind}.png`, data: await copy(sharp(data)).toBuffer() });
    }
    return all;
  }

  it('keeps each with its original, and says so', async () => {
    const { index, report } = await take(await members());
    const copies = index.samples.filter(({ repeats }) => repeats !== undefined);
    expect(copies).toHaveLength(24);
    const [line, ...others] = report.warnings.filter(({ code }) => code === 'near-duplicates');
    expect(others).toEqual([]);
    expect(line!.detail).toMatch(/^24 images .*cat\/1.*; …$/);
    for (let seed = 0; seed < 5; seed++) {
      const splits = splitDataset(index.samples, seed, { validation: 0.2, test: 0.2 });
      const of = new Map(Object.entries(splits).flatMap(([split, list]) => (list as number[]).map((i) => [index.samples[i]!.path, split]))); // prettier-ignore
      for (const { path, repeats } of copies) expect(of.get(path), path).toBe(of.get(repeats!));
      expect(splits.test.length).toBeGreaterThan(4);
      expect(splits.validation.length).toBeGreaterThan(4);
      // As an index of old, which does not know of them: they are apart sooner or later.
      const old = index.samples.map(({ repeats: _, ...sample }): Sample => sample);
      expect(splitDataset(old, seed).train.length).toBeGreaterThan(0);
    }
  });

  it('warns where the archive itself puts copies into different splits', async () => {
    const { index, report } = await take(await members(['train/', 'test/']));
    const leaks = report.warnings.filter(({ code }) => code === 'split-leak');
    expect(leaks).toHaveLength(24);
    expect(leaks[0]!.detail).toMatch(/shows the same picture as t(est|rain)\/.* in another split/);
    const { test } = splitDataset(index.samples, 0);
    expect(test).toHaveLength(24);
  });

  it('is not looked for in arrays of pixels', async () => {
    const images = Buffer.concat(
      Array.from({ length: 30 }, (_, i) => Buffer.alloc(784, 3).fill(i % 2 ? 250 : 120, 0, 300)),
    );
    const labels = Buffer.from(Array.from({ length: 30 }, (_, i) => i % 2));
    const { index } = await take([
      { path: 'train-images-idx3-ubyte', data: idxFile([30, 28, 28], images) },
      { path: 'train-labels-idx1-ubyte', data: idxFile([30], labels) },
    ]);
    expect(index.samples.every(({ repeats }) => repeats === undefined)).toBe(true);
  });
});
