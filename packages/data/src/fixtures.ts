/** Archives and images for the tests of this room, hostile ones included, made in code. */
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { crc32, deflateRawSync } from 'node:zlib';
import { Rng } from '@ntaa/random';
import { pack, type Header } from 'tar-stream';
import { sharp } from './sharp.js';

/** A PNG of noise that differs by `seed`. */
export function png(seed: number, width = 12, height = 10): Promise<Buffer> {
  const rng = new Rng(seed, 'image');
  const raw = Buffer.alloc(width * height * 3);
  for (let i = 0; i < raw.length; i++) raw[i] = rng.uint32();
  return sharp(raw, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
}

export interface Member {
  path: string | Buffer;
  data?: Buffer | string;
  /** Unix mode with the file type, e.g. 0o120777 for a symlink. */
  mode?: number;
  flags?: number;
  method?: number;
  /** What the headers claim, where that differs from the truth. */
  size?: number;
  crc?: number;
}

/** A zip written by hand, so that it can hold what libraries refuse to write. */
export function zip(members: readonly Member[]): Buffer {
  const locals: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const member of members) {
    const name = Buffer.isBuffer(member.path) ? member.path : Buffer.from(member.path);
    const data = Buffer.from(member.data ?? '');
    const method = member.method ?? 8;
    const packed = method === 8 ? deflateRawSync(data) : data;
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(member.flags ?? 0x800, 2);
    common.writeUInt16LE(method, 4);
    common.writeUInt32LE(member.crc ?? crc32(data), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(member.size ?? data.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, name, packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(((member.mode ?? 0o100644) << 16) >>> 0, 6);
    tail.writeUInt32LE(offset, 10);
    central.push(Buffer.concat([Buffer.from('PK\x01\x02'), Buffer.from([20, 3]), common, tail, name]));
    locals.push(local);
    offset += local.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(members.length, 8);
  end.writeUInt16LE(members.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, directory, end]);
}

export type TarMember = Partial<Header> & { name: string; data?: Buffer | string };

/** A tar in memory. */
export async function tar(members: readonly TarMember[]): Promise<Buffer> {
  const archive = pack();
  for (const { data, ...header } of members)
    archive.entry(header, data === undefined ? '' : Buffer.from(data));
  archive.finalize();
  const parts: Buffer[] = [];
  for await (const part of archive as AsyncIterable<unknown> as AsyncIterable<Buffer>) parts.push(part);
  return Buffer.concat(parts);
}

/** A tar of any size, written to a file as it is made. */
export async function writeTar(
  file: string,
  members: Iterable<{ name: string; data: Buffer }>,
): Promise<void> {
  const archive = pack();
  const written = pipeline(archive as unknown as NodeJS.ReadableStream, createWriteStream(file));
  for (const { name, data } of members)
    await new Promise<void>((resolve, reject) =>
      archive.entry({ name }, data, (error) => (error ? reject(error) : resolve())),
    );
  archive.finalize();
  await written;
}

/** An idx file of unsigned bytes. */
export function idxFile(dimensions: readonly number[], data: Uint8Array): Buffer {
  const head = Buffer.alloc(4 + 4 * dimensions.length);
  head.writeUInt32BE(0x800 + dimensions.length, 0);
  for (const [i, n] of dimensions.entries()) head.writeUInt32BE(n, 4 + 4 * i);
  return Buffer.concat([head, data]);
}
