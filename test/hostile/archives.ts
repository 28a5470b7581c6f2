/** Archives that are refused, or that only look as if they should be, and what each is answered. */
import { zip } from '../../packages/data/src/fixtures.js';
import * as bytes from './bytes.js';
import { GOOD, goodTar, gzipped, image, overlapping, paxPath, tar, withGood } from './bytes.js';

export interface ArchiveCase {
  readonly name: string;
  readonly file: () => Buffer | Promise<Buffer>;
  /** HTTP status of the upload and problem code, where it is refused there. */
  readonly refused?: readonly [number, string];
  /** Else the dataset's error code, or `ready`. */
  readonly becomes?: string;
  /** Codes that the report lists, skipped or warned of. */
  readonly reports?: readonly string[];
}

const named = (path: string | Buffer, data: Buffer = image(1)) => withGood({ path, data });
const csv = (table: string | Buffer, ...more: { path: string; data: Buffer }[]) =>
  zip([...GOOD, ...more, { path: 'labels.csv', data: table }]);
/** A row of each good image. */
const rows = (label: (i: number) => string) =>
  GOOD.map(({ path }, i) => `${String(path)},${label(i)}`).join('\n');

const PATHS: readonly ArchiveCase[] = [
  ['a path that climbs out', '../../etc/cron.d/x.png'],
  ['a path that climbs out from inside', 'cat/../../x.png'],
  ['an absolute path', '/etc/x.png'],
  ['a backslash', 'cat\\..\\..\\x.png'],
  ['a drive letter', 'C:/Windows/x.png'],
  ['a NUL in a name', 'cat/x.png\0.txt'],
  ['a line break in a name', 'cat/x\r\nlevel: error.png'],
  ['an escape sequence in a name', 'cat/\x1b[2Jx.png'],
  ['a name that reads backwards (bidi override)', 'cat/x\u202egnp.exe'],
  ['a name that hides its direction (bidi isolate)', 'cat/\u2066x\u2069.png'],
  ['a path of 2,000 characters', `cat/${'x'.repeat(2000)}.png`],
].map(([name, path]) => ({ name: name!, file: () => named(path!), becomes: 'archive-unsafe-path' }));

const ZIPS: readonly ArchiveCase[] = [
  {
    name: 'a symbolic link',
    file: () => withGood({ path: 'cat/x.png', data: '/etc/passwd', mode: 0o120777 }),
    becomes: 'archive-symlink',
  },
  {
    name: 'a device',
    file: () => withGood({ path: 'cat/x.png', mode: 0o060666 }),
    becomes: 'archive-special-file',
  },
  {
    name: 'a pipe',
    file: () => withGood({ path: 'cat/x.png', mode: 0o010666 }),
    becomes: 'archive-special-file',
  },
  {
    name: 'an encrypted member',
    file: () => withGood({ path: 'cat/x.png', data: image(), flags: 0x801 }),
    becomes: 'archive-encrypted',
  },
  {
    name: 'an unusual compression',
    file: () => withGood({ path: 'cat/x.png', data: image(), method: 12 }),
    becomes: 'archive-unsupported',
  },
  {
    name: 'a member larger than it says',
    file: () => withGood({ path: 'cat/x.png', data: image(), size: 50 }),
    becomes: 'archive-corrupt',
  },
  {
    name: 'a member smaller than it says',
    file: () => withGood({ path: 'cat/x.png', data: image(), size: 500_000 }),
    becomes: 'archive-corrupt',
  },
  {
    name: 'a wrong checksum',
    file: () => withGood({ path: 'cat/x.png', data: image(), crc: 1 }),
    becomes: 'archive-corrupt',
  },
  { name: 'a member that claims 4 GB', file: () => withGood({ path: 'cat/x.png', data: image(), size: 4e9 }), becomes: 'archive-too-large' }, // prettier-ignore
  {
    name: 'a zip bomb',
    file: () => withGood({ path: 'cat/x.png', data: Buffer.alloc(60e6) }),
    becomes: 'archive-too-large',
  },
  { name: 'members that overlap', file: () => overlapping(2000), becomes: 'archive-corrupt' },
  { name: 'zips in zips', file: () => zip(GOOD.map(({ path }) => ({ path: String(path), data: zip([{ path: 'x', data: zip([...GOOD]) }]) }))), becomes: 'no-images', reports: ['not-an-image'] }, // prettier-ignore
  {
    name: 'names that differ in case',
    file: () => withGood({ path: 'CAT/1.PNG', data: image() }),
    becomes: 'archive-duplicate-path',
  },
  { name: 'names that differ in Unicode form', file: () => withGood({ path: 'cat/é.png', data: image() }, { path: 'cat/e\u0301.png', data: image(1) }), becomes: 'archive-duplicate-path' }, // prettier-ignore
  { name: 'names that look alike in compatibility form', file: () => withGood({ path: 'cat/ﬁ.png', data: image() }, { path: 'cat/fi.png', data: image(1) }), becomes: 'archive-duplicate-path' }, // prettier-ignore
  { name: 'one name twice', file: () => named('cat/1.png'), becomes: 'archive-duplicate-path' },
  {
    name: 'a name that is not UTF-8',
    file: () => named(Buffer.from('cat/\xff\xfe.png', 'latin1')),
    becomes: 'ready',
  },
  { name: 'a truncated zip', file: () => withGood().subarray(0, -200), becomes: 'archive-corrupt' },
  { name: 'a zip with its middle missing', file: () => Buffer.concat([withGood().subarray(0, 900), withGood().subarray(-900)]), becomes: 'archive-corrupt' }, // prettier-ignore
  { name: 'an empty zip', file: () => zip([]), becomes: 'no-images' },
  {
    name: 'only what macOS leaves',
    file: () => zip([{ path: '__MACOSX/cat/._1.png', data: image() }]),
    becomes: 'no-images',
  },
  {
    name: 'the start of a zip, and nothing',
    file: () => Buffer.from('PK\x03\x04'),
    becomes: 'archive-corrupt',
  },
  {
    name: 'a folder in a folder, 500 times',
    file: () => named(`cat/${'a/'.repeat(490)}x.png`),
    becomes: 'ready',
  },
];

const TARS: readonly ArchiveCase[] = [
  {
    name: 'tar: a symbolic link',
    file: () => tar([...goodTar(), { name: 'cat/x.png', type: '2', link: '/etc/passwd' }]),
    becomes: 'archive-symlink',
  },
  {
    name: 'tar: a hard link',
    file: () => tar([...goodTar(), { name: 'cat/x.png', type: '1', link: '../../etc/passwd' }]),
    becomes: 'archive-symlink',
  },
  {
    name: 'tar: a character device',
    file: () => tar([...goodTar(), { name: 'cat/x.png', type: '3' }]),
    becomes: 'archive-special-file',
  },
  {
    name: 'tar: a pipe',
    file: () => tar([...goodTar(), { name: 'cat/x.png', type: '6' }]),
    becomes: 'archive-special-file',
  },
  {
    name: 'tar: an unknown kind of entry',
    file: () => tar([...goodTar(), { name: 'cat/x.png', type: 'S' }]),
    becomes: 'archive-special-file',
  },
  {
    name: 'tar: a path that climbs out',
    file: () => tar([...goodTar(), { name: '../x.png', data: image() }]),
    becomes: 'archive-unsafe-path',
  },
  { name: 'tar: the same by a pax header', file: () => tar([...goodTar(), paxPath('../../x.png'), { name: 'cat/x.png', data: image() }]), becomes: 'archive-unsafe-path' }, // prettier-ignore
  { name: 'tar: the same by a long name', file: () => tar([...goodTar(), { name: '././@LongLink', type: 'L', data: Buffer.from(`${'../'.repeat(50)}x.png\0`) }, { name: 'x', data: image() }]), becomes: 'archive-unsafe-path' }, // prettier-ignore
  {
    name: 'tar: a size beyond its end',
    file: () => tar([...goodTar(), { name: 'cat/x.png', data: image(), size: 10e6 }]),
    becomes: 'archive-corrupt',
  },
  { name: 'tar: a size of many terabytes', file: () => tar([...goodTar(), { name: 'cat/x.png', size: '\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff' }]), becomes: 'archive-too-large' }, // prettier-ignore
  {
    name: 'tar: a negative size',
    file: () => tar([...goodTar(), { name: 'cat/x.png', size: `${'\xff'.repeat(11)}\0` }]),
    becomes: 'archive-corrupt',
  },
  { name: 'tar: truncated', file: () => tar(goodTar(), false).subarray(0, -300), becomes: 'archive-corrupt' },
  {
    name: 'tar.gz: truncated',
    file: () => gzipped(tar(goodTar())).subarray(0, -200),
    becomes: 'archive-corrupt',
  },
  {
    name: 'tar.gz: a bomb',
    file: () => gzipped(tar([...goodTar(), { name: 'cat/x.png', data: Buffer.alloc(50e6) }])),
    becomes: 'archive-too-large',
  },
  { name: 'tar.gz: rubbish after its end', file: () => Buffer.concat([gzipped(tar(goodTar())), Buffer.from('PK\x03\x04 rubbish')]), becomes: 'archive-corrupt' }, // prettier-ignore
  {
    name: 'gzip of something else',
    file: () => gzipped(Buffer.from('not a tar')),
    becomes: 'archive-unsupported',
  },
  { name: 'gzip in gzip', file: () => gzipped(gzipped(tar(goodTar()))), becomes: 'archive-unsupported' },
  {
    name: 'gzip of 300 MB of nothing',
    file: () => gzipped(Buffer.alloc(300e6)),
    becomes: 'archive-unsupported',
  },
  { name: '70,000 empty members', file: () => tar([...goodTar(), ...Array.from({ length: 70_000 }, (_, i) => ({ name: `cat/e${i}.png` }))]), becomes: 'ready', reports: ['empty-file', 'more'] }, // prettier-ignore
  { name: '10,001 classes', file: () => tar([...goodTar(), ...Array.from({ length: 10_001 }, (_, i) => ({ name: `c${i}/x.png` }))]), becomes: 'too-many-classes' }, // prettier-ignore
];

const NOT_ARCHIVES: readonly ArchiveCase[] = [
  ['an empty file', Buffer.alloc(0)],
  ['zeros', Buffer.alloc(100_000)],
  ['a RAR', Buffer.from('Rar!\x1a\x07\x01\0')],
  ['a 7-Zip', Buffer.from('7z\xbc\xaf\x27\x1c', 'latin1')],
  ['a PNG that is a zip at its end', Buffer.concat([image(), withGood()])],
  ['HTML', Buffer.from('<!doctype html><script>alert(1)</script>')],
  ['a program', Buffer.concat([Buffer.from('\x7fELF\x02\x01\x01', 'latin1'), Buffer.alloc(600)])],
].map(([name, file]) => ({
  name: `not an archive: ${name as string}`,
  file: () => file as Buffer,
  refused: [415, 'unsupported-media-type'] as const,
}));

const TABLES: readonly ArchiveCase[] = [
  { name: 'csv: a byte order mark, CRLF and ragged rows', file: () => csv(`\ufeffpath,label,split\r\n${GOOD.map(({ path }, i) => `${String(path)},${i % 2 ? 'a' : 'b'}`).join('\r\n')}\r\n`), becomes: 'ready' }, // prettier-ignore
  {
    name: 'csv: rows with more fields than columns',
    file: () => csv(`path,label\n${rows((i) => `${i % 2},x,y,z`)}`),
    becomes: 'format-invalid',
  },
  {
    name: 'csv: formulas',
    file: () => csv(`path,label\n${rows((i) => `"=cmd|'/c calc'!A${i % 2}"`)}`),
    becomes: 'ready',
  },
  { name: 'csv: 300,000 columns', file: () => csv(`path,label,${Array.from({ length: 300_000 }, (_, i) => `c${i}`).join()}\n${rows((i) => String(i % 2))}`), becomes: 'format-invalid' }, // prettier-ignore
  { name: 'csv: names of prototypes for columns', file: () => csv(`path,label,__proto__,constructor,toString\n${rows((i) => `${i % 2},x,y,z`)}`), becomes: 'ready' }, // prettier-ignore
  { name: 'csv: names of prototypes for classes', file: () => csv(`path,label\n${rows((i) => (i % 2 ? '__proto__' : 'constructor'))}`), becomes: 'ready' }, // prettier-ignore
  { name: 'csv: ages that are none', file: () => csv(`path,age\n${rows((i) => ['NaN', '-3', 'Infinity', '1e400', '200', '0x1f'][i] ?? String(20 + i))}`), becomes: 'too-few-images', reports: ['csv-row-invalid'] }, // prettier-ignore
  {
    name: 'csv: one class',
    file: () => csv(`path,label\n${rows(() => 'same')}`),
    becomes: 'too-few-classes',
  },
  { name: 'csv: one age', file: () => csv(`path,age\n${rows(() => '40')}`), becomes: 'degenerate-target' },
  {
    name: 'csv: an image a class',
    file: () => csv(`path,label\n${rows((i) => `class ${i}`)}`),
    becomes: 'too-few-images',
  },
  { name: 'csv: 100,000 labels of files that are not there', file: () => csv(`path,label\n${Array.from({ length: 100_000 }, (_, i) => `x${i}.png,l${i}`).join('\n')}`), becomes: 'no-images', reports: ['missing-file', 'more'] }, // prettier-ignore
  { name: 'csv: one image in two splits', file: () => csv(`path,label,split\n${rows((i) => `${i % 2},train`)}\n${rows((i) => `${i % 2},test`)}`), becomes: 'no-images', reports: ['label-conflict'] }, // prettier-ignore
  { name: 'csv: paths that climb out', file: () => csv(`path,label\n${rows((i) => String(i % 2))}\n../../etc/passwd,0\n/etc/passwd,1`), becomes: 'ready', reports: ['missing-file'] }, // prettier-ignore
  {
    name: 'csv: not UTF-8',
    file: () => csv(Buffer.from('path,label\ncat/1.png,\xff\xfe', 'latin1')),
    becomes: 'format-invalid',
  },
  {
    name: 'csv: an open quote',
    file: () => csv(`path,label\n${rows((i) => String(i % 2))}\n"open`),
    becomes: 'format-invalid',
  },
  { name: 'csv: no column of paths', file: () => csv('file,label\nx,y'), becomes: 'format-invalid' },
  {
    name: 'csv: a column twice',
    file: () => csv(`path,label,label\n${rows((i) => `${i % 2},x`)}`),
    becomes: 'format-invalid',
  },
  {
    name: 'csv: NUL in a label',
    file: () => csv(`path,label\n${rows((i) => `a\0${i % 2}`)}`),
    becomes: 'format-invalid',
  },
  {
    name: 'csv: a label of 10,000 characters',
    file: () => csv(`path,label\n${rows((i) => 'x'.repeat(10_000) + (i % 2))}`),
    becomes: 'format-invalid',
  },
  { name: 'csv: 600,000 rows', file: () => zip([...GOOD, { path: 'labels.csv', data: `path,label\n${'a,b\n'.repeat(6e5)}`, method: 0 }]), becomes: 'format-invalid' }, // prettier-ignore
  { name: 'csv: empty', file: () => csv(''), becomes: 'format-invalid' },
];

export const ARCHIVES: readonly ArchiveCase[] = [...PATHS, ...ZIPS, ...TARS, ...NOT_ARCHIVES, ...TABLES];

/** Images, all in one archive with good ones: why each is skipped, `accepted`, or the warning it gets. */
export const IMAGES: readonly (readonly [string, string, () => Buffer | Promise<Buffer>])[] = [
  ['empty', 'empty-file', () => Buffer.alloc(0)],
  ['truncated PNG', 'image-truncated', () => image().subarray(0, -60)],
  [
    'truncated JPEG',
    'image-truncated',
    async () => (await bytes.picture().jpeg().toBuffer()).subarray(0, -80),
  ],
  ['truncated WebP', 'image-truncated', async () => (await bytes.picture().webp({ lossless: true }).toBuffer()).subarray(0, -80)], // prettier-ignore
  ['only a signature', 'image-truncated', () => image().subarray(0, 8)],
  ['wrong checksum', 'image-corrupt', () => bytes.wrongChecksum()],
  ['header of 30,000 px', 'image-too-large', () => bytes.pngHeader(30_000, 30_000)],
  ['header of 2 billion px', 'image-corrupt', () => bytes.pngHeader(2 ** 31 - 1, 2 ** 31 - 1)],
  ['no width', 'image-corrupt', () => bytes.pngHeader(0, 10)],
  ['30,000 px of zeros', 'image-too-large', () => bytes.pngBomb(30_000, 30_000)],
  ['49 megapixels of zeros', 'accepted', () => bytes.pngBomb(7000, 7000, 8)],
  ['text that unpacks to 100 MB', 'accepted', () => bytes.textBomb()],
  ['30,000 px wide, 1 high', 'accepted', () => bytes.pngBomb(30_000, 1, 8)],
  ['1 px', 'accepted', () => bytes.pngBomb(1, 1, 8)],
  [
    'SVG',
    'image-format',
    () => Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
  ],
  ['SVG that reads files', 'image-format', () => Buffer.from('<?xml version="1.0"?><svg xmlns:xlink="x"><image xlink:href="file:///etc/passwd"/></svg>')], // prettier-ignore
  [
    'XML that grows',
    'not-an-image',
    () => Buffer.from('<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><svg>&a;</svg>'),
  ],
  ['GIF', 'image-format', () => bytes.picture().gif().toBuffer()],
  ['TIFF', 'image-format', () => bytes.picture().tiff().toBuffer()],
  ['BMP', 'image-format', () => Buffer.concat([Buffer.from('BM'), Buffer.alloc(100)])],
  ['AVIF', 'image-format', () => Buffer.from('\0\0\0\x1cftypavif\0\0\0\0')],
  ['PDF', 'not-an-image', () => Buffer.from('%PDF-1.7\n1 0 obj')],
  [
    'ImageMagick script',
    'not-an-image',
    () => Buffer.from('push graphic-context\nimage over 0,0 0,0 "|id"\n'),
  ],
  ['HTML', 'not-an-image', () => Buffer.from('<html><script>alert(1)</script>')],
  [
    'JPEG and ZIP in one',
    'accepted',
    async () => Buffer.concat([await bytes.picture().jpeg().toBuffer(), withGood()]),
  ],
  ['CMYK', 'accepted', () => bytes.picture().toColourspace('cmyk').jpeg().toBuffer()],
  ['16 bits', 'accepted', () => bytes.picture().toColourspace('rgb16').png().toBuffer()],
  ['grey with alpha', 'accepted', () => bytes.picture().ensureAlpha(0.5).greyscale().png().toBuffer()],
  ['progressive JPEG', 'accepted', () => bytes.picture().jpeg({ progressive: true }).toBuffer()],
  ['animated', 'image-animated', () => bytes.animated()],
  ...[1, 2, 3, 4, 5, 6, 7, 8].map(
    (orientation) =>
      [`EXIF orientation ${orientation}`, 'accepted', () => bytes.picture().withMetadata({ orientation }).jpeg().toBuffer()] as const, // prettier-ignore
  ),
];
