import { readFile } from 'node:fs/promises';
import { ProblemError } from '@ntaa/contracts';
import type { Metadata } from 'sharp';
import { fingerprint, sizeForPrint, type Fingerprint } from './fingerprint.js';
import { sharp } from './sharp.js';
import type { PackOptions } from './types.js';

const PIXELS = 50e6;
const WHITE = { r: 255, g: 255, b: 255 };

/** Why an image was not accepted: a code and a sentence of the report. */
export class ImageError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = 'ImageError';
    this.code = code;
  }
}

export interface ImageFacts {
  /** As seen, after EXIF orientation, px. */
  width: number;
  height: number;
  /** More than one for an animation, of which the first frame counts. */
  frames: number;
  /** null: there is nothing to know it by. */
  print: Fingerprint | null;
}

const ascii = (bytes: Uint8Array, from: number, to: number) =>
  String.fromCharCode(...bytes.subarray(from, to));

const OTHERS: readonly [string, RegExp][] = [
  ['GIF', /^GIF8/],
  ['BMP', /^BM[^]{4}\0\0\0\0/],
  ['TIFF', /^(II\*\0|MM\0\*)/],
  ['AVIF or HEIC', /^[^]{4}ftyp(avif|avis|heic|heix|mif1|msf1)/],
  ['JPEG XL', /^(\xff\x0a|\0\0\0\x0cJXL )/],
  ['JPEG 2000', /^(\0\0\0\x0cjP {2}|\xff\x4f\xff\x51)/],
  ['SVG', /^\s*(<\?xml[^>]*>\s*)?(<!--[^]*-->\s*)?<svg/],
];

/**
 * Checks by content that this is a JPEG, PNG or WebP file.
 * @throws {ImageError} `empty-file`, `image-format` (another image format) or `not-an-image`.
 */
export function sniff(bytes: Uint8Array): 'jpeg' | 'png' | 'webp' {
  if (bytes.length === 0) throw new ImageError('empty-file', 'the file is empty');
  const head = ascii(bytes, 0, 64);
  if (head.startsWith('\xff\xd8\xff')) return 'jpeg';
  if (head.startsWith('\x89PNG\r\n\x1a\n')) return 'png';
  if (head.startsWith('RIFF') && head.slice(8, 12) === 'WEBP') return 'webp';
  const other = OTHERS.find(([, magic]) => magic.test(head));
  if (other) throw new ImageError('image-format', `${other[0]} is not supported; use JPEG, PNG or WebP`);
  throw new ImageError('not-an-image', 'the content is not a JPEG, PNG or WebP image');
}

function openImage(bytes: Uint8Array, pixels: number) {
  return sharp(bytes, { failOn: 'error', limitInputPixels: pixels, sequentialRead: true });
}

/**
 * Whether a PNG lacks its last chunk, a JPEG an end after its last scan, or a WebP is shorter than it says. The decoder says
 * so, too, but of images decoded at the same time it may have another's words.
 */
function endsEarly(bytes: Uint8Array): boolean {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (file[0] === 0xff)
    return file.lastIndexOf('ffd9', undefined, 'hex') < file.lastIndexOf('ffda', undefined, 'hex');
  if (file[0] === 0x89) return !file.includes('IEND');
  return ascii(file, 0, 4) === 'RIFF' && file.readUInt32LE(4) + 8 > file.length;
}

/** libvips' words for it, as a code of the report. */
function translate(error: unknown, bytes: Uint8Array, pixels: number): ImageError {
  if (error instanceof ImageError) return error;
  const message = error instanceof Error ? error.message.trim().split('\n')[0]! : String(error);
  if (/pixel limit/i.test(message))
    return new ImageError('image-too-large', `the image has more than ${pixels} pixels`);
  if (/premature end|truncated/i.test(message) || endsEarly(bytes))
    return new ImageError('image-truncated', `the image ends too early (${message})`);
  return new ImageError('image-corrupt', `the image cannot be decoded (${message})`);
}

/**
 * Decodes every pixel once, in bounded memory, to prove that the image is whole.
 * @throws {ImageError}
 */
export async function inspectImage(bytes: Uint8Array, pixels = PIXELS): Promise<ImageFacts> {
  sniff(bytes);
  try {
    const { autoOrient, pages, orientation, width, height } = await openImage(bytes, pixels).metadata();
    const size = sizeForPrint(width, height);
    // A box filter reads all pixels; shrinking inside the JPEG decoder would not. Turned upright when it is small: to
    // turn an image is to hold all of it.
    const shrunk = await openImage(bytes, pixels)
      .flatten({ background: WHITE })
      .toColourspace('srgb')
      .resize(size.width, size.height, { fit: 'fill', kernel: 'linear', fastShrinkOnLoad: false })
      .raw()
      .toBuffer();
    return {
      width: autoOrient.width,
      height: autoOrient.height,
      frames: pages ?? 1,
      print: fingerprint(shrunk, size.width, size.height, orientation),
    };
  } catch (error) {
    throw translate(error, bytes, pixels);
  }
}

/**
 * Bytes that decoding takes of an image that cannot be decoded row by row: a WebP, an interlaced PNG, a progressive JPEG,
 * or a PNG to be turned upright. 0 for the others. (A JPEG is turned when it has been shrunk.)
 */
function bytesToDecode(about: Metadata, lossy: boolean): number {
  const { format, width, height, channels, depth, isProgressive, orientation = 1, chromaSubsampling } = about;
  const pixels = width * height;
  // Lossless WebP is held twice. An extended one does not say at once what it is.
  if (format === 'webp') return pixels * (lossy ? 4 : 8);
  // Coefficients of 16 bits, of colours in half the resolution or not.
  if (format === 'jpeg')
    return isProgressive ? pixels * (chromaSubsampling === '4:2:0' ? 3 : 2 * channels) : 0;
  return isProgressive || orientation > 4 ? pixels * channels * (depth === 'ushort' ? 2 : 1) : 0;
}

/**
 * Decodes one image (encoded bytes, or the path of a file) as Preprocessing says.
 * @returns uint8 RGB [height, width, 3].
 * @param memory bytes that decoding may take beside the image's own.
 * @throws {ProblemError} `image-unreadable` when it is not a whole JPEG, PNG or WebP of at most 50 Mpx.
 */
export async function decodeImage(
  image: Uint8Array | string,
  options: PackOptions,
  memory = Infinity,
): Promise<Uint8Array> {
  const { width, height, fit, kernel, background } = options;
  const bytes = typeof image === 'string' ? await readFile(image) : image;
  try {
    sniff(bytes);
    if (
      memory < Infinity &&
      bytesToDecode(await openImage(bytes, PIXELS).metadata(), ascii(bytes, 12, 16) === 'VP8 ') > memory
    )
      throw new ImageError(
        'image-too-large',
        'the image is too large to be decoded as a whole; save it without interlacing (as a baseline JPEG), or smaller',
      );
    const pixels = await openImage(bytes, PIXELS)
      .autoOrient()
      .flatten({ background })
      .toColourspace('srgb')
      .resize(width, height, { fit, kernel, background })
      .raw()
      .toBuffer();
    if (pixels.length !== width * height * 3)
      throw new ImageError('image-corrupt', `${pixels.length} bytes of pixels instead of RGB`);
    return pixels;
  } catch (error) {
    throw new ProblemError('image-unreadable', translate(error, bytes, PIXELS).message);
  }
}
