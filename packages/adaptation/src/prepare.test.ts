import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { decodeImage, ingest, type DatasetIndex } from '@ntaa/data';
import { tinySpace } from '@ntaa/nas';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ZipFile } from 'yazl';
import { drawFace, drawPedestrian } from '../../../test/setup/people.js';
import { GEOMETRY, prepareTarget, usefulResolutions, type Prepared } from './prepare.js';
import { evaluationBatches, TrainingBatches } from './target-data.js';
import { taskFor } from '@ntaa/tasks';
import { startTestEngine } from '../../../test/setup/engine.js';

let folder: string;
const sets = new Map<string, DatasetIndex>();

/** Twelve people before two cameras, twice: 32 x 64 px, or 32 x 32 px. */
async function write(name: string, draw: (person: number, camera: number, shot: number) => Promise<Buffer>) {
  const archive = new ZipFile();
  const rows = ['path,identity,camera,label'];
  for (let i = 0; i < 48; i++) {
    const [person, camera, shot] = [i >> 2, (i >> 1) & 1, i & 1];
    archive.addBuffer(await draw(person, camera, shot), `${i}.png`);
    rows.push(`${i}.png,p${person},c${camera},${person % 2}`);
  }
  archive.addBuffer(Buffer.from(rows.join('\n')), 'labels.csv');
  archive.end();
  const file = join(folder, `${name}.zip`);
  await finished(archive.outputStream.pipe(createWriteStream(file)));
  const out = await mkdtemp(join(folder, `${name}-`));
  const { index, counts } = await ingest({ archive: file, out, scratch: folder });
  sets.set(name, index);
  return { images: join(out, 'images.bin'), aspect: counts.aspect };
}

let tall: Awaited<ReturnType<typeof write>>;
let square: Awaited<ReturnType<typeof write>>;
beforeAll(async () => {
  await startTestEngine();
  folder = await mkdtemp(join(tmpdir(), 'ntaa-prepare-'));
  tall = await write('tall', (...which) => drawPedestrian(...which, 2));
  square = await write('square', (person, camera, shot) =>
    drawFace({ age: 5 + 7 * person, gender: 'male', skin: 'dark' }, 2 * camera + shot),
  );
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function prepared(
  name: string,
  task: 're-identification' | 'classification',
  use: (data: Prepared) => Promise<void> | void,
): Promise<void> {
  const data = await prepareTarget({
    ...{ task, index: sets.get(name)!, space: tinySpace, seed: 1, packed: new Map() },
    images: () => Promise.resolve((name === 'tall' ? tall : square).images),
    scratch: await mkdtemp(join(folder, 'packs-')),
  });
  try {
    await use(data);
  } finally {
    data.close();
  }
}

/** Image `index` of the set, decoded for width x height apart from the packs. */
async function decoded(name: string, index: number, width: number, height: number): Promise<Uint8Array> {
  const { offset, length } = sets.get(name)!.samples[index]!;
  const bytes = await readFile((name === 'tall' ? tall : square).images);
  return decodeImage(bytes.subarray(offset, offset + length), { width, height, ...GEOMETRY });
}

it('shows re-identification images taller than wide as they are, in training and in evaluation', async () => {
  expect(tall.aspect).toBe(2);
  await prepared('tall', 're-identification', async (data) => {
    expect(data.aspect).toBe(2);
    const sizes = [...data.packs].map(([resolution, { width, height }]) => [resolution, width, height]);
    // 48 x 96 would enlarge them.
    expect(sizes).toEqual([
      [24, 24, 48],
      [32, 32, 64],
    ]);
    const { mean, std, scale } = data.preprocessing;
    const [index = 0] = data.splits.validation;
    const pixels = await decoded('tall', index, 24, 48);
    for (const images of evaluationBatches(data, [index], 24)) {
      expect(images.shape).toEqual([1, 48, 24, 3]);
      const values = images.dataSync();
      pixels.forEach((x, i) => expect(values[i]).toBeCloseTo((x * scale - mean[i % 3]!) / std[i % 3]!, 5));
    }
    const batches = new TrainingBatches(data, data.splits.train, 8, [1], taskFor('re-identification'));
    const [part] = batches.batch(0, 32);
    expect(part!.images.shape).toEqual([8, 64, 32, 3]);
    part!.images.dispose();
  });
});

it('shows other tasks, and re-identification of square images, squares, of the bytes they always were', async () => {
  await prepared('tall', 'classification', (data) => {
    expect(data).not.toHaveProperty('aspect');
    expect([...data.packs.values()].map(({ width, height }) => [width, height])).toEqual([
      [24, 24],
      [32, 32],
      [48, 48],
    ]);
  });
  expect(square.aspect).toBe(1);
  await prepared('square', 're-identification', async (data) => {
    expect(data).not.toHaveProperty('aspect');
    expect([...data.packs.keys()]).toEqual(usefulResolutions(tinySpace, sets.get('square')!));
    const packed = data.packs.get(32)!;
    const pixels = new Uint8Array(packed.stride);
    packed.read(5, pixels);
    expect(pixels).toEqual(await decoded('square', 5, 32, 32).then((bytes) => Uint8Array.from(bytes)));
  });
});
