import { existsSync } from 'node:fs';
import { mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { DatasetFormat } from '@ntaa/contracts';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { idxFile, png, tar, writeTar, zip, type Member, type TarMember } from './fixtures.js';
import { decodeImage, ingest, type IngestLimits, type RefusedDataset } from './index.js';
import { sharp } from './sharp.js';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'ntaa-data-'));
});
afterEach(async () => {
  const left = existsSync(join(root, 'scratch')) ? await readdir(join(root, 'scratch')) : [];
  await rm(root, { recursive: true, force: true });
  expect(left, 'left in scratch').toEqual([]);
});

interface Extra {
  format?: DatasetFormat;
  limits?: Partial<IngestLimits>;
}
async function take(archive: Buffer, extra: Extra = {}) {
  const file = join(root, 'archive');
  await writeFile(file, archive);
  return ingest({ archive: file, out: join(root, 'out'), scratch: join(root, 'scratch'), ...extra });
}
async function refusal(archive: Buffer, extra: Extra = {}): Promise<RefusedDataset> {
  await rm(join(root, 'out'), { recursive: true, force: true });
  const error = await take(archive, extra).then(
    () => expect.fail('was accepted'),
    (failure: unknown) => failure as RefusedDataset,
  );
  expect(error, String(error)).toMatchObject({ name: 'DatasetError' });
  expect(error.report.error?.code).toBe(error.code);
  expect(existsSync(join(root, 'out')), 'nothing written').toBe(false);
  return error;
}
const skippedCodes = (report: { skipped: { path: string; code: string }[] }) =>
  Object.fromEntries(report.skipped.map(({ path, code }) => [path, code]));

/** Twelve good images of two classes. */
async function good(prefix = ''): Promise<{ path: string; data: Buffer }[]> {
  return Promise.all(
    Array.from({ length: 12 }, async (_, i) => ({
      path: `${prefix}${i % 2 ? 'cat' : 'dog'}/${i}.png`,
      data: await png(i),
    })),
  );
}
const asTar = (members: readonly { path: string; data: Buffer }[]): TarMember[] =>
  members.map(({ path, data }) => ({ name: path, data }));

it('refuses labels that cannot be stored, and shows names so that they can be', async () => {
  const images = Array.from({ length: 12 }, (_, i) => i);
  const members = await Promise.all(images.map(async (i) => ({ path: `${i}.png`, data: await png(i) })));
  const csv = (label: (i: number) => string, more = '') =>
    zip([
      ...members,
      {
        path: 'labels.csv',
        data: `path,label\n${images.map((i) => `${i}.png,${label(i)}`).join('\n')}\n${more}`,
      },
    ]);
  for (const odd of ['x'.repeat(256), 'a\0b'])
    expect((await refusal(csv((i) => (i % 2 ? 'y' : odd)))).code).toBe('format-invalid');
  const { report, counts } = await take(csv((i) => 'yz'[i % 2]!, `a\0${'b'.repeat(5000)}.png,y`));
  expect(counts.skipped).toBe(1);
  expect(report.skipped[0]!.path).toMatch(/^a\ufffdb{1100,}…$/);
});

describe('kinds of archives', () => {
  it('gives the same dataset for zip, tar and tar.gz, whatever the order', async () => {
    const members = await good();
    const archives = [
      zip(members),
      zip(members.map((member) => ({ ...member, method: 0 }))),
      await tar(asTar(members)),
      gzipSync(await tar(asTar(members.toReversed()))),
    ];
    const results = [];
    for (const archive of archives) {
      const { index, counts, labels } = await take(archive);
      const images = await readFile(join(root, 'out', 'images.bin'));
      for (const { path, offset, length } of index.samples)
        expect(
          images.subarray(offset, offset + length).equals(members.find((m) => m.path === path)!.data),
        ).toBe(true);
      expect(JSON.parse(await readFile(join(root, 'out', 'index.json'), 'utf8'))).toEqual(index);
      results.push({ counts, labels, samples: index.samples.map((sample) => ({ ...sample, offset: 0 })) });
    }
    for (const result of results) expect(result).toEqual(results[0]);
    expect(results[0]!.labels).toEqual([
      { name: 'cat', count: 6 },
      { name: 'dog', count: 6 },
    ]);
    expect(results[0]!.counts).toMatchObject({ images: 12, skipped: 0, classes: 2, splits: null });
  });

  it.each<[string, string, Member | Member[]]>([
    ['archive-unsafe-path', 'a climbing path', { path: 'a/../../b.png' }],
    ['archive-unsafe-path', 'an absolute path', { path: '/etc/passwd' }],
    ['archive-unsafe-path', 'a drive letter', { path: 'C:/a.png' }],
    ['archive-unsafe-path', 'a backslash', { path: 'a\\b.png' }],
    ['archive-unsafe-path', 'a NUL', { path: 'a\0b.png' }],
    ['archive-unsafe-path', 'an endless path', { path: 'a/'.repeat(600) + 'b.png' }],
    ['archive-symlink', 'a symlink', { path: 'cat/link.png', data: '/etc/passwd', mode: 0o120777 }],
    ['archive-special-file', 'a pipe', { path: 'cat/pipe', mode: 0o010644 }],
    ['archive-encrypted', 'encryption', { path: 'cat/x.png', data: 'x', flags: 0x801 }],
    ['archive-unsupported', 'bzip2 inside', { path: 'cat/x.png', data: 'x', method: 12 }],
    ['archive-corrupt', 'a wrong checksum', { path: 'cat/x.png', data: 'abc', crc: 1 }],
    ['archive-corrupt', 'more bytes than declared', { path: 'cat/x.png', data: 'abcabcabc', size: 3 }],
    ['archive-corrupt', 'fewer bytes than declared', { path: 'cat/x.png', data: 'abc', size: 9 }],
    ['archive-too-large', 'a bomb', { path: 'cat/x.png', data: Buffer.alloc(2e6) }],
    ['archive-duplicate-path', 'the same path twice', [{ path: 'a/b.png' }, { path: 'a/b.png' }]],
    ['archive-duplicate-path', 'paths that differ by case', [{ path: 'a/B.png' }, { path: 'a/b.png' }]],
    ['archive-duplicate-path', 'two Unicode forms', [{ path: 'a/\u00e9.png' }, { path: 'a/e\u0301.png' }]],
  ])('%s: a zip with %s', async (code, _, hostile) => {
    const error = await refusal(zip([...(await good()), ...[hostile].flat()]));
    expect(error.code, error.message).toBe(code);
  });

  it('refuses overlapping members and a cut zip', async () => {
    const archive = zip(await good());
    const cut = await refusal(archive.subarray(0, archive.length - 30));
    expect(cut.code).toBe('archive-corrupt');
    const doubled = Buffer.from(archive);
    const at = doubled.indexOf('PK\x01\x02');
    doubled.writeUInt32LE(doubled.length + 1, at + 20);
    expect((await refusal(doubled)).code).toBe('archive-corrupt');
  });

  it.each<[string, TarMember]>([
    ['archive-unsafe-path', { name: '../x.png', data: 'x' }],
    ['archive-unsafe-path', { name: '/x.png', data: 'x' }],
    ['archive-symlink', { name: 'cat/l.png', type: 'symlink', linkname: '/etc/passwd' }],
    ['archive-symlink', { name: 'cat/l.png', type: 'link', linkname: 'dog/0.png' }],
    ['archive-special-file', { name: 'cat/d', type: 'character-device', devmajor: 1, devminor: 5 }],
    ['archive-special-file', { name: 'cat/d', type: 'fifo' }],
    ['archive-duplicate-path', { name: 'DOG/0.PNG', data: 'x' }],
  ])('%s: a tar with %j', async (code, hostile) => {
    const error = await refusal(await tar([...asTar(await good()), hostile]));
    expect(error.code, error.message).toBe(code);
  });

  it('refuses damaged and exploding tars', async () => {
    const archive = await tar(asTar(await good()));
    expect((await refusal(archive.subarray(0, 700))).code).toBe('archive-corrupt');
    expect((await refusal(gzipSync(archive).subarray(0, 2000))).code).toBe('archive-corrupt');
    const broken = Buffer.from(archive);
    broken.fill(7, 0, 100); // the name changes, the checksum does not
    expect((await refusal(broken)).code).toBe('archive-corrupt');
    const bomb = gzipSync(await tar([{ name: 'cat/x.png', data: Buffer.alloc(3e6) }]));
    expect((await refusal(bomb)).code).toBe('archive-too-large');
  });

  it('refuses what is not an archive, saying what it is', async () => {
    expect(await refusal(Buffer.from('Rar!\x1a\x07'))).toMatchObject({ code: 'archive-unsupported' });
    expect((await refusal(await png(1))).message).toMatch(/a single PNG image/);
    expect((await refusal(Buffer.alloc(0))).message).toMatch(/an empty file/);
    expect((await refusal(gzipSync(Buffer.alloc(5000, 1)))).code).toBe('archive-unsupported');
  });

  it('keeps to its limits', async () => {
    const archive = zip(await good());
    expect((await refusal(archive, { limits: { entries: 11 } })).code).toBe('archive-too-many-entries');
    expect((await refusal(archive, { limits: { unpackedBytes: 2000 } })).code).toBe('archive-too-large');
    expect((await refusal(archive, { limits: { classes: 1 } })).code).toBe('too-many-classes');
    const tarred = await tar(asTar(await good()));
    expect((await refusal(tarred, { limits: { entries: 11 } })).code).toBe('archive-too-many-entries');
    const { report, counts } = await take(
      zip([...(await good()), { path: 'cat/big.png', data: await png(99, 90, 90) }]),
      {
        limits: { imageBytes: 5000 },
      },
    );
    expect(skippedCodes(report)).toEqual({ 'cat/big.png': 'image-too-large' });
    expect(counts.skipped).toBe(1);
  });
});

describe('images', () => {
  it('skips what is not a whole image, and says why, all at once', async () => {
    const whole = await png(50, 40, 40);
    const noise = { path: 'cat/pixels.png', data: await png(51, 200, 200) };
    const raw = { width: 8, height: 16, channels: 3, pageHeight: 8 } as const;
    const animated = await sharp(Buffer.from(Array.from({ length: 384 }, (_, i) => i % 256)), { raw })
      .webp()
      .toBuffer();
    const { report, counts } = await take(
      zip([
        ...(await good()),
        { path: 'cat/cut.png', data: whole.subarray(0, whole.length / 2) },
        { path: 'cat/empty.png' },
        { path: 'cat/text.jpg', data: 'hello' },
        { path: 'cat/anim.gif', data: 'GIF89a........' },
        { path: 'cat/anim.webp', data: animated },
        { path: 'cat/again.png', data: await png(1) },
        { path: 'dog/conflict.png', data: await png(3) },
        noise,
        { path: 'README.txt', data: 'hello' },
        { path: 'more.zip', data: 'PK' },
        { path: '__MACOSX/cat/._0.png', data: 'x' },
        { path: 'cat/.DS_Store', data: 'x' },
        { path: 'cat/Thumbs.db', data: 'x' },
      ]),
      { limits: { imagePixels: 30_000 } },
    );
    expect(skippedCodes(report)).toEqual({
      'cat/cut.png': 'image-truncated',
      'cat/empty.png': 'empty-file',
      'cat/text.jpg': 'not-an-image',
      'cat/anim.gif': 'image-format',
      'cat/pixels.png': 'image-too-large',
      'README.txt': 'unlabelled',
      'more.zip': 'nested-archive',
    });
    expect(report.warnings).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ path: 'cat/anim.webp', code: 'image-animated' }),
        expect.objectContaining({ path: 'cat/again.png', code: 'duplicate-image' }),
        expect.objectContaining({ path: 'dog/conflict.png', code: 'label-conflict' }),
        expect.objectContaining({ path: '', code: 'class-small' }),
      ]),
    );
    expect(counts).toMatchObject({ images: 15, skipped: 7 });
    expect(report.sizes).toEqual({ min: 8, median: 10, max: 12 });
  });

  it('caps the report', async () => {
    const empty = Array.from({ length: 1200 }, (_, i) => ({ path: `cat/empty${i}.png` }));
    const { report, counts } = await take(zip([...(await good()), ...empty]));
    expect(counts.skipped).toBe(1200);
    expect(report.skipped).toHaveLength(1001);
    expect(report.skipped.at(-1)).toEqual({ path: '', code: 'more', detail: 'and 200 more' });
  });

  it('refuses what cannot be learned', async () => {
    const members = await good();
    expect((await refusal(zip([{ path: 'cat/a.png', data: 'x' }]))).code).toBe('no-images');
    expect((await refusal(zip([]))).code).toBe('no-images');
    expect((await refusal(zip(members.slice(0, 6)))).code).toBe('too-few-images');
    expect((await refusal(zip(members.map(({ data }, i) => ({ path: `cat/${i}.png`, data }))))).code).toBe(
      'too-few-classes',
    );
    expect((await refusal(zip(members.map(({ data }, i) => ({ path: `c${i}/x.png`, data }))))).code).toBe(
      'too-few-images',
    );
    const oneTrained = members.map(({ path, data }) => ({
      path: `${path.startsWith('cat') ? 'train' : 'test'}/${path}`,
      data,
    }));
    expect((await refusal(zip(oneTrained))).code).toBe('degenerate-target');
  });
});

describe('image-folder', () => {
  it('sees splits, under a wrapping folder too, and tolerates classes named like splits', async () => {
    const members = [
      ...(await good('set/train/')),
      ...(await good('set/val/')),
      ...(await good('set/Test/')),
    ];
    const { counts, index } = await take(zip(members));
    expect(counts.splits).toEqual({ train: 12, validation: 12, test: 12 });
    expect(index.labels).toEqual(['cat', 'dog']);
    expect(index.samples[0]!.path).toBe('Test/cat/1.png');
    const vehicles = (await good()).map(({ path, data }) => ({ path: path.replace('cat', 'train'), data }));
    expect((await take(zip(vehicles))).index.labels).toEqual(['dog', 'train']);
  });

  it('sorts numeric classes as numbers and reads names that are not marked as UTF-8', async () => {
    const members = await Promise.all(
      Array.from({ length: 12 }, async (_, i) => ({
        path: `${[2, 10, 9][i % 3]}/${i}.png`,
        data: await png(i),
      })),
    );
    expect((await take(zip(members))).index.labels).toEqual(['2', '9', '10']);
    const umlauts = (await good()).map(({ path, data }) => ({
      path: path.replace('cat', 'Bär'),
      data,
      flags: 0,
    }));
    expect((await take(zip(umlauts))).index.labels).toEqual(['Bär', 'dog']);
  });

  it('says what it saw and expected when the format is unknown', async () => {
    const flat = (await good()).map(({ data }, i) => ({ path: `${i}.png`, data }));
    const error = await refusal(zip(flat));
    expect(error.code).toBe('format-unknown');
    expect(error.message).toMatch(/0\.png.*CLASS\/IMAGE.*labels\.csv/);
    expect((await refusal(zip(flat), { format: 'image-folder' })).code).toBe('format-invalid');
  });
});

describe('csv', () => {
  const images = async () => (await good()).map(({ data }, i) => ({ path: `set/img/${i}.png`, data }));
  const rows = (from: number, to: number, row: (i: number) => string) =>
    Array.from({ length: to - from }, (_, i) => row(i + from));

  it('reads quoted, BOM-led, CRLF-ended tables with every column', async () => {
    const table = [
      '\ufeffPath,Label,identity,camera,age,gender,domain,split',
      ...rows(
        0,
        12,
        (i) =>
          `./img/${i}.png,"${i % 2 ? 'a, ""b""' : 'c'}",p${i},k,${i},female,studio,${i < 9 ? 'train' : 'val'}`,
      ),
    ].join('\r\n');
    const { index, counts, report } = await take(
      zip([...(await images()), { path: 'set/labels.csv', data: table }]),
    );
    expect(index.labels).toEqual(['a, "b"', 'c']);
    expect(counts.splits).toEqual({ train: 9, validation: 3, test: 0 });
    expect(index.samples.find(({ path }) => path === 'img/3.png')).toMatchObject({
      label: 0,
      identity: 'p3',
      camera: 'k',
      age: 3,
      gender: 'female',
      domain: 'studio',
      split: 'train',
    });
    expect(report.skipped).toEqual([]);
  });

  it('reports every doubtful row and every file without one', async () => {
    const table = [
      'path,label,split',
      ...rows(0, 10, (i) => `img/${i}.png,${i % 2},`),
      'img/10.png,1,',
      'img/10.png,0,',
      'img/1.png,1,',
      'img/gone.png,1,',
      ',1,',
      'img/2.png,,',
      'img/3.png,1,sometimes',
    ].join('\n');
    const { report, counts } = await take(
      zip([...(await images()), { path: 'set/labels.csv', data: table }]),
    );
    expect(counts.images).toBe(10);
    expect(skippedCodes(report)).toEqual({
      'set/img/10.png': 'label-conflict',
      'set/img/gone.png': 'missing-file',
      'set/labels.csv:16': 'csv-row-invalid',
      'set/labels.csv:17': 'csv-row-invalid',
      'set/labels.csv:18': 'csv-row-invalid',
      'set/img/11.png': 'unlabelled',
    });
    expect(report.warnings).toContainEqual(
      expect.objectContaining({ path: 'set/img/1.png', code: 'duplicate-row' }),
    );
  });

  it.each([
    ['without a path column', 'file,label\na,b'],
    ['with a column twice', 'path,label,label\na,b,c'],
    ['with a broken quote', 'path,label\n"a,b\nc,d'],
    ['that is not UTF-8', Buffer.from('path,label\n\xff\xfe,x', 'latin1')],
  ])('refuses a table %s', async (_, data) => {
    const error = await refusal(zip([...(await images()), { path: 'set/labels.csv', data }]));
    expect(error).toMatchObject({ code: 'format-invalid', where: 'set/labels.csv' });
  });

  it('takes identity, gender or age as the label, and refuses one that does not vary', async () => {
    const table = ['path;gender', ...rows(0, 12, (i) => `img/${i}.png;${i % 2 ? 'f' : 'm'}`)].join('\n');
    const { index } = await take(zip([...(await images()), { path: 'set/labels.csv', data: table }]));
    expect(index.labels).toEqual(['f', 'm']);
    const same = ['path,age', ...rows(0, 12, (i) => `img/${i}.png,30`)].join('\n');
    const error = await refusal(zip([...(await images()), { path: 'set/labels.csv', data: same }]));
    expect(error.code).toBe('degenerate-target');
  });

  it('skips impossible ages, refuses a table of nothing else, and keeps further columns', async () => {
    const ages = (age: (i: number) => string | number) =>
      ['path,age,skin_tone,split', ...rows(0, 12, (i) => `img/${i}.png,${age(i)},${i % 3},`)].join('\n');
    const mixed = ages((i) => ['-1', 'NaN', '121', 20 + i][Math.min(i, 3)]!);
    const files = await images();
    const members: Member[] = [...files, ...files.map((m, i) => ({ ...m, path: `set/img/${12 + i}.png` }))];
    const more = rows(12, 24, (i) => `img/${i}.png,${i}.5,x,gallery`).join('\n');
    const { index, report } = await take(
      zip([...members, { path: 'set/labels.csv', data: `${mixed}\n${more}` }]),
    );
    expect(Object.values(skippedCodes(report)).filter((code) => code === 'csv-row-invalid')).toHaveLength(3);
    expect(index.samples.find(({ path }) => path === 'img/12.png')).toMatchObject({
      ...{ age: 12.5, role: 'gallery', split: 'test', attributes: { skin_tone: 'x' } },
    });
    const error = await refusal(zip([...files, { path: 'set/labels.csv', data: ages(() => '-7') }]));
    expect(error).toMatchObject({ code: 'degenerate-target' });
  });

  it('takes images without labels', async () => {
    const table = ['path', ...rows(0, 12, (i) => `img/${i}.png`)].join('\n');
    const { index, counts } = await take(zip([...(await images()), { path: 'set/labels.csv', data: table }]));
    expect(counts).toMatchObject({ images: 12, classes: 0, columns: {} });
    expect(index.samples.every(({ label }) => label === -1)).toBe(true);
  });
});

describe('idx', () => {
  const pixels = (n: number) => Uint8Array.from({ length: n * 35 }, (_, i) => (i * 31) % 256);
  const labels = (n: number) => Uint8Array.from({ length: n }, (_, i) => i % 10);
  const members = (n = 30, m = 10): Member[] => [
    { path: 'raw/train-images-idx3-ubyte', data: idxFile([n, 7, 5], pixels(n)) },
    { path: 'raw/train-labels-idx1-ubyte', data: idxFile([n], labels(n)) },
    { path: 'raw/t10k-images-idx3-ubyte.gz', data: gzipSync(idxFile([m, 7, 5], pixels(m))) },
    { path: 'raw/t10k-labels-idx1-ubyte.gz', data: gzipSync(idxFile([m], labels(m))) },
  ];

  it('keeps every pixel, label and split', async () => {
    const { index, counts } = await take(zip(members()));
    expect(counts).toMatchObject({ images: 40, classes: 10, splits: { train: 30, validation: 0, test: 10 } });
    expect(index.labels).toEqual(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    const images = await readFile(join(root, 'out', 'images.bin'));
    const sample = index.samples.find(({ path }) => path === 'train-images-idx3-ubyte#000013')!;
    expect(sample).toMatchObject({ label: 3, split: 'train', width: 5, height: 7 });
    const rgb = await decodeImage(images.subarray(sample.offset, sample.offset + sample.length), {
      width: 5,
      height: 7,
      fit: 'fill',
      kernel: 'nearest',
      background: { r: 0, g: 0, b: 0 },
    });
    expect(rgb.filter((_, i) => i % 3 === 1)).toEqual(Buffer.from(pixels(30).subarray(13 * 35, 14 * 35)));
  });

  it.each<[string, number, Buffer]>([
    ['more images than bytes', 0, idxFile([30, 7, 5], pixels(29))],
    ['fewer images than bytes', 0, idxFile([30, 7, 5], pixels(31))],
    ['another number of images than labels', 0, idxFile([29, 7, 5], pixels(29))],
    ['another type', 0, Buffer.concat([Buffer.from([0, 0, 0x0d, 3]), Buffer.alloc(500)])],
    ['absurd sides', 0, idxFile([30, 100000, 100000], pixels(30))],
    ['a cut header', 0, Buffer.from([0, 0, 8])],
    ['more labels than bytes', 1, idxFile([30], labels(20))],
    ['labels that are not gzip', 3, Buffer.from('hello')],
  ])('refuses %s', async (_, which, data) => {
    const set = members();
    set[which]!.data = data;
    expect(await refusal(zip(set))).toMatchObject({ code: 'format-invalid', where: set[which]!.path });
  });

  it('refuses images without labels', async () => {
    expect((await refusal(zip(members().slice(0, 1)))).code).toBe('format-invalid');
  });
});

describe('market1501 and utkface', () => {
  const boxes = async (names: readonly string[]): Promise<Member[]> =>
    Promise.all(names.map(async (path, i) => ({ path: `Market/${path}`, data: await png(i) })));
  const train = Array.from(
    { length: 12 },
    (_, i) => `bounding_box_train/000${2 + (i % 3)}_c${1 + (i % 2)}s1_00${i}_01.jpg`,
  );

  it('reads identity, camera and the parts of the protocol', async () => {
    const names = [
      ...train,
      'query/0100_c1s1_000001_00.jpg',
      'bounding_box_test/0100_c2s1_000002_01.jpg',
      'bounding_box_test/-1_c2s1_000003_01.jpg',
      'bounding_box_test/0000_c2s1_000004_01.jpg',
      'readme.txt',
      'query/strange.jpg',
    ];
    const { index, report, counts } = await take(zip(await boxes(names)));
    expect(index.format).toBe('market1501');
    expect(counts.splits).toEqual({ train: 12, validation: 0, test: 3 });
    expect(index.samples.find(({ role }) => role === 'query')).toMatchObject({
      path: 'query/0100_c1s1_000001_00.jpg',
      identity: '0100',
      camera: '1',
      split: 'test',
    });
    expect(Object.values(skippedCodes(report)).sort()).toEqual(['junk-box', 'name-invalid', 'unlabelled']);
  });

  it.each([
    ['without queries', []],
    ['with shared identities', ['query/0002_c1s1_1_0.jpg', 'bounding_box_test/0002_c2s1_1_0.jpg']],
    [
      'whose queries have no other camera',
      ['query/0100_c1s1_1_0.jpg', 'bounding_box_test/0100_c1s1_2_0.jpg'],
    ],
  ])('refuses a protocol %s', async (_, names) => {
    expect((await refusal(zip(await boxes([...train, ...names])))).code).toBe('reid-protocol');
  });

  it('reads ages and genders from names', async () => {
    const faces = Array.from(
      { length: 12 },
      (_, i) => `${20 + i}_${i % 2}_0_2017010${i % 9}000.jpg.chip.jpg`,
    );
    const { index, report } = await take(zip(await boxes([...faces, '39_1_20170116.jpg', '999_1_0_1.jpg'])));
    expect(index).toMatchObject({ format: 'utkface', labels: ['female', 'male'] });
    expect(index.samples[5]).toMatchObject({ age: 25, gender: 'female', label: 0 });
    expect(report.skipped.map(({ code }) => code)).toEqual(['name-invalid', 'name-invalid']);
    const men = Array.from({ length: 12 }, (_, i) => `${20 + i}_0_${i % 5}_2017.jpg`);
    const { counts } = await take(zip(await boxes(men)));
    expect(counts.columns).toMatchObject({ age: { images: 12, values: 12 }, gender: { values: 1 } });
    const same = Array.from({ length: 12 }, (_, i) => `20_0_0_20${10 + i}.jpg`);
    expect((await refusal(zip(await boxes(same)))).code).toBe('degenerate-target');
  });
});

it('needs memory for a few images only, however large the archive', { timeout: 60_000 }, async () => {
  const file = join(root, 'archive');
  // Not compressed: 1 MB that is decoded fast.
  const image = await sharp(await png(1, 600, 600))
    .png({ compressionLevel: 0 })
    .toBuffer();
  function* members() {
    for (let i = 0; i < 200; i++) {
      const data = Buffer.concat([image, Buffer.from(String(i))]);
      yield { name: `${i % 2 ? 'cat' : 'dog'}/${i}.png`, data };
    }
  }
  await writeTar(file, members());
  const handle = await open(file);
  expect((await handle.stat()).size).toBeGreaterThan(150e6);
  await handle.close();
  const before = process.memoryUsage.rss();
  const { counts } = await ingest({
    archive: file,
    out: join(root, 'out'),
    scratch: join(root, 'scratch'),
  });
  expect(counts.images).toBe(200);
  // The highest ever, as the kernel saw it.
  const peak = process.resourceUsage().maxRSS * 1024;
  expect((peak - before) / 1e6).toBeLessThan(150);
});
