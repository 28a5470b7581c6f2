import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import sharp from 'sharp';
import { ZipFile } from 'yazl';

/**
 * An archive of 8 px pictures of three classes, which differ in which rows are bright.
 * @param options `count` of them; `tested`: so many more, for the test alone; `padding`: bytes of a file that is no picture.
 */
export async function pictures({ count = 90, tested = 0, padding = 0 } = {}) {
  const zip = new ZipFile();
  for (let i = 0; i < count + tested; i++) {
    const bright = (pixel) => (pixel >> 3) % 3 === i % 3;
    const pixels = Array.from({ length: 64 }, (_, p) => (bright(p) ? 180 : 60) + ((p * 7 + i * 13) % 40));
    const png = sharp(Buffer.from(pixels), { raw: { width: 8, height: 8, channels: 1 } }).png();
    const split = tested === 0 ? '' : i < count ? 'train/' : 'test/';
    zip.addBuffer(await png.toBuffer(), `${split}rows ${i % 3}/${i}.png`);
  }
  if (padding > 0) zip.addBuffer(randomBytes(padding), 'notes.bin', { compress: false });
  zip.end();
  return buffer(zip.outputStream);
}
