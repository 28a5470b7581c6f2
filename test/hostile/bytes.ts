/** Archives and images that no honest program writes. */
import { crc32, deflateSync, gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { png, zip, type Member } from '../../packages/data/src/fixtures.js';

/** Twelve good images of two classes. */
export const GOOD: readonly Member[] = await Promise.all(
  Array.from({ length: 12 }, async (_, i) => ({
    path: `${i % 2 ? 'cat' : 'dog'}/${i}.png`,
    data: await png(i),
  })),
);
export const image = (i = 0): Buffer => GOOD[i]!.data as Buffer;
export const withGood = (...members: Member[]): Buffer => zip([...GOOD, ...members]);

export interface TarEntry {
  name: string;
  data?: Buffer;
  /** '0' file, '1' hard link, '2' symlink, '3' character device, '5' folder, '6' pipe, 'x' pax, 'L' long name. */
  type?: string;
  link?: string;
  /** What the header claims. */
  size?: number | string;
}
/** A tar written by hand. */
export function tar(entries: readonly TarEntry[], end = true): Buffer {
  const blocks: Buffer[] = [];
  for (const { name, data = Buffer.alloc(0), type = '0', link = '', size = data.length } of entries) {
    const head = Buffer.alloc(512);
    head.write(name, 0, 100);
    head.write('0000644\0' + '0000000\0' + '0000000\0', 100, 'latin1');
    head.write(
      typeof size === 'string' ? size : `${size.toString(8).padStart(11, '0')}\0`,
      124,
      12,
      'latin1',
    );
    head.write('00000000000\0' + ' '.repeat(8) + type, 136, 'latin1');
    head.write(link, 157, 100);
    head.write('ustar\x0000', 257, 'latin1');
    const sum = head.reduce((a, b) => a + b, 0);
    head.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    blocks.push(head, data, Buffer.alloc((512 - (data.length % 512)) % 512));
  }
  if (end) blocks.push(Buffer.alloc(1024));
  return Buffer.concat(blocks);
}
export const goodTar = (): TarEntry[] =>
  GOOD.map(({ path, data }) => ({ name: String(path), data: data as Buffer }));
/** The next entry's path, by a pax header. */
export function paxPath(path: string): TarEntry {
  const text = (length: number): string => `${length} path=${path}\n`;
  let length = path.length + 8;
  while (Buffer.byteLength(text(length)) !== length) length = Buffer.byteLength(text(length));
  return { name: 'pax', type: 'x', data: Buffer.from(text(length)) };
}

/** One member's bytes under many names: what they claim to unpack to grows with the square of the file. */
export function overlapping(count: number): Buffer {
  const whole = zip([{ path: 'a/aaaa.png', data: Buffer.alloc(100_000) }]);
  const end = whole.subarray(-22);
  const central = whole.subarray(end.readUInt32LE(16), whole.length - 22);
  const local = whole.subarray(0, end.readUInt32LE(16));
  const entries = Array.from({ length: count }, (_, i) => {
    const copy = Buffer.from(central);
    copy.write(String(i).padStart(4, '0'), 46 + 2, 'latin1');
    return copy;
  });
  const directory = Buffer.concat(entries);
  const tail = Buffer.from(end);
  tail.writeUInt16LE(count, 8);
  tail.writeUInt16LE(count, 10);
  tail.writeUInt32LE(directory.length, 12);
  return Buffer.concat([local, directory, tail]);
}

function chunk(type: string, data: Buffer): Buffer {
  const out = Buffer.alloc(data.length + 12);
  out.writeUInt32BE(data.length, 0);
  out.write(type, 4, 'latin1');
  data.copy(out, 8);
  out.writeUInt32BE(crc32(out.subarray(4, 8 + data.length)), 8 + data.length);
  return out;
}
const SIGNATURE = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
function header(width: number, height: number, bits: number, colour = 0, interlaced = 0): Buffer {
  const data = Buffer.alloc(13);
  data.writeUInt32BE(width, 0);
  data.writeUInt32BE(height, 4);
  data.set([bits, colour, 0, 0, interlaced], 8);
  return chunk('IHDR', data);
}
/** A whole PNG of zeros, however large, in a few kilobytes. @param bits 1: one bit a pixel, 8: grey. */
export function pngBomb(width: number, height: number, bits: 1 | 8 = 1, interlaced = false): Buffer {
  const row = Math.ceil((width * bits) / 8) + 1;
  // Interlaced rows are shorter, and there are more of them: zeros beyond the last are not read.
  const data = deflateSync(Buffer.alloc(row * height + (interlaced ? 16 * height : 0)));
  return Buffer.concat([
    SIGNATURE,
    header(width, height, bits, 0, interlaced ? 1 : 0),
    chunk('IDAT', data),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}
/** The same with 64 bits a pixel, interlaced: all of it has to be held to be decoded. */
export function deepBomb(width: number, height: number): Buffer {
  const data = deflateSync(Buffer.alloc(width * height * 8 + 16 * height), { level: 1 });
  return Buffer.concat([
    SIGNATURE,
    header(width, height, 16, 6, 1),
    chunk('IDAT', data),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}
/** A PNG whose header alone is large: nothing follows. */
export const pngHeader = (width: number, height: number): Buffer =>
  Buffer.concat([
    SIGNATURE,
    header(width, height, 8),
    chunk('IDAT', deflateSync(Buffer.alloc(10))),
    chunk('IEND', Buffer.alloc(0)),
  ]);
/** An image with a text chunk that unpacks to 100 MB. */
export function textBomb(): Buffer {
  const text = Buffer.concat([Buffer.from('Comment\0\0'), deflateSync(Buffer.alloc(100e6, 65))]);
  const good = image();
  return Buffer.concat([good.subarray(0, 33), chunk('zTXt', text), good.subarray(33)]);
}
/** An image whose pixels have another checksum. */
export function wrongChecksum(): Buffer {
  const copy = Buffer.from(image());
  copy[copy.indexOf('IDAT') + 20]! ^= 0xff;
  return copy;
}

const noise = Buffer.from(Array.from({ length: 24 * 24 * 3 }, (_, i) => (i * 7919) % 251));
export const picture = () => sharp(noise, { raw: { width: 24, height: 24, channels: 3 } });
export const animated = (): Promise<Buffer> =>
  sharp(Buffer.concat([noise, noise.map((byte) => 255 - byte)]), {
    raw: { width: 24, height: 48, channels: 3, pageHeight: 24 },
  })
    .webp({ loop: 0, delay: [100, 100] })
    .toBuffer();
export const gzipped = (bytes: Buffer): Buffer => gzipSync(bytes);
