import { describe, expect, it } from 'vitest';
import { decodeImage, inspectImage, sniff } from './image.js';
import { sharp } from './sharp.js';
import type { PackOptions } from './types.js';

const options: PackOptions = {
  width: 16,
  height: 16,
  fit: 'fill',
  kernel: 'linear',
  background: { r: 255, g: 0, b: 255 },
};
const at = (pixels: Uint8Array, x: number, y: number, width = 16) => [
  ...pixels.subarray((y * width + x) * 3, (y * width + x) * 3 + 3),
];
const flat = (r: number, g: number, b: number, alpha?: number) =>
  sharp({
    create: {
      width: 32,
      height: 32,
      channels: alpha === undefined ? 3 : 4,
      background: alpha === undefined ? { r, g, b } : { r, g, b, alpha },
    },
  });
function noise(width: number, height: number, channels: 1 | 3 | 4 = 3) {
  const raw = Buffer.alloc(width * height * channels);
  let state = 1;
  for (let i = 0; i < raw.length; i++) raw[i] = (state = (state * 1103515245 + 12345) & 0x7fffffff) >> 16;
  return sharp(raw, { raw: { width, height, channels } });
}
const near = (actual: number[], wanted: number[], tolerance: number) => {
  expect(actual).toHaveLength(wanted.length);
  for (const [i, value] of wanted.entries())
    expect(Math.abs(actual[i]! - value), `${actual} is not ${wanted}`).toBeLessThanOrEqual(tolerance);
};

describe('decodeImage', () => {
  it('gives the RGB pixels of colour images in every format', async () => {
    for (const image of [flat(200, 100, 50).png(), flat(200, 100, 50).webp({ lossless: true })])
      expect(at(await decodeImage(await image.toBuffer(), options), 5, 9)).toEqual([200, 100, 50]);
    near(at(await decodeImage(await flat(200, 100, 50).jpeg().toBuffer(), options), 5, 9), [200, 100, 50], 3);
  });

  it('turns an image upright as EXIF says', async () => {
    // Left half red, right half blue; orientation 6 means it has to be turned 90 degrees clockwise: red on top.
    const raw = Buffer.alloc(32 * 32 * 3);
    for (let i = 0; i < 32 * 32; i++) raw[i * 3 + (i % 32 < 16 ? 0 : 2)] = 255;
    const image = await sharp(raw, { raw: { width: 32, height: 32, channels: 3 } })
      .withMetadata({ orientation: 6 })
      .png()
      .toBuffer();
    const pixels = await decodeImage(image, options);
    expect(at(pixels, 8, 2)).toEqual([255, 0, 0]);
    expect(at(pixels, 8, 13)).toEqual([0, 0, 255]);
    const tall = await noise(20, 30).withMetadata({ orientation: 8 }).jpeg().toBuffer();
    expect(await inspectImage(tall)).toMatchObject({ width: 30, height: 20, frames: 1 });
  });

  it('lays transparent pixels on the background', async () => {
    const clear = await flat(10, 20, 30, 0).png().toBuffer();
    expect(at(await decodeImage(clear, options), 3, 3)).toEqual([255, 0, 255]);
    near(at(await decodeImage(await flat(0, 0, 0, 0.5).png().toBuffer(), options), 3, 3), [127, 0, 127], 1);
  });

  it('makes grey images RGB, with and without alpha, 8 and 16 bit', async () => {
    const grey = Buffer.alloc(32 * 32, 77);
    const raw = { width: 32, height: 32, channels: 1 } as const;
    const plain = await sharp(grey, { raw }).toColourspace('b-w').png().toBuffer();
    expect((await sharp(plain).metadata()).channels).toBe(1);
    expect(at(await decodeImage(plain, options), 1, 1)).toEqual([77, 77, 77]);
    const jpeg = await sharp(grey, { raw }).toColourspace('b-w').jpeg().toBuffer();
    near(at(await decodeImage(jpeg, options), 1, 1), [77, 77, 77], 2);
    const alpha = await sharp(grey, { raw }).toColourspace('b-w').ensureAlpha(0).png().toBuffer();
    const background = { r: 9, g: 9, b: 9 };
    expect(at(await decodeImage(alpha, { ...options, background }), 1, 1)).toEqual([9, 9, 9]);
    const deep = await sharp(grey, { raw }).toColourspace('grey16').png().toBuffer();
    expect((await sharp(deep).metadata()).depth).toBe('ushort');
    near(at(await decodeImage(deep, options), 1, 1), [77, 77, 77], 1);
  });

  it('makes 16-bit colour 8-bit', async () => {
    const deep = await flat(200, 100, 50).toColourspace('rgb16').png().toBuffer();
    expect((await sharp(deep).metadata()).depth).toBe('ushort');
    near(at(await decodeImage(deep, options), 1, 1), [200, 100, 50], 1);
    const clear = await flat(200, 100, 50, 0).toColourspace('rgb16').png().toBuffer();
    near(at(await decodeImage(clear, options), 1, 1), [255, 0, 255], 1);
  });

  it('makes CMYK sRGB', async () => {
    const cmyk = await flat(200, 100, 50).toColourspace('cmyk').jpeg({ quality: 100 }).toBuffer();
    expect((await sharp(cmyk).metadata()).space).toBe('cmyk');
    near(at(await decodeImage(cmyk, options), 1, 1), [200, 100, 50], 32);
  });

  it('reads palette images', async () => {
    const image = await flat(200, 100, 50).png({ palette: true }).toBuffer();
    expect(at(await decodeImage(image, options), 1, 1)).toEqual([200, 100, 50]);
  });

  it('pads with the background when the image must be contained', async () => {
    const wide = await sharp({ create: { width: 32, height: 8, channels: 3, background: '#0f0' } })
      .png()
      .toBuffer();
    const pixels = await decodeImage(wide, { ...options, fit: 'contain' });
    expect(at(pixels, 8, 0)).toEqual([255, 0, 255]);
    expect(at(pixels, 8, 8)).toEqual([0, 255, 0]);
  });

  it('equals the pipeline that the manifest describes', async () => {
    const image = await noise(50, 40).jpeg().toBuffer();
    for (const kernel of ['nearest', 'linear', 'cubic', 'lanczos3'] as const) {
      const { background, fit } = options;
      const strangers = await sharp(image)
        .autoOrient()
        .flatten({ background })
        .toColourspace('srgb')
        .resize(16, 16, { fit, kernel })
        .raw()
        .toBuffer();
      expect(Buffer.from(await decodeImage(image, { ...options, kernel })).equals(strangers)).toBe(true);
    }
  });

  it('says clearly what it cannot read', async () => {
    await expect(decodeImage(Buffer.from('hello'), options)).rejects.toMatchObject({
      name: 'ProblemError',
      code: 'image-unreadable',
    });
    const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>');
    await expect(decodeImage(svg, options)).rejects.toThrow(/SVG is not supported/);
  });
});

describe('inspectImage', () => {
  it('finds a missing end in every format', async () => {
    const images = {
      jpeg: await noise(200, 150).jpeg().toBuffer(),
      progressive: await noise(200, 150).jpeg({ progressive: true }).toBuffer(),
      png: await noise(200, 150).png().toBuffer(),
      interlaced: await noise(200, 150).png({ progressive: true }).toBuffer(),
      webp: await noise(200, 150).webp().toBuffer(),
      lossless: await noise(200, 150).webp({ lossless: true }).toBuffer(),
    };
    for (const [name, image] of Object.entries(images)) {
      expect(await inspectImage(image)).toMatchObject({ width: 200, height: 150, frames: 1 });
      for (const share of [0.2, 0.5, 0.9, 0.98]) {
        const part = image.subarray(0, Math.floor(image.length * share));
        const found = await inspectImage(part).then(
          () => 'accepted',
          (error: { code: string }) => error.code,
        );
        expect(found, `${name} cut at ${share}`).toBe('image-truncated');
      }
    }
  });

  it('finds damage in the middle', async () => {
    const png = Buffer.from(await noise(200, 150).png().toBuffer());
    png.fill(0, png.length >> 1, (png.length >> 1) + 64);
    await expect(inspectImage(png)).rejects.toMatchObject({ name: 'ImageError', code: 'image-corrupt' });
  });

  it('refuses too many pixels before decoding them', async () => {
    const huge = await sharp({ create: { width: 4000, height: 3000, channels: 3, background: '#fff' } })
      .png()
      .toBuffer();
    await expect(inspectImage(huge, 1e6)).rejects.toMatchObject({ code: 'image-too-large' });
  });

  it('counts the frames of an animation', async () => {
    const raw = { width: 16, height: 32, channels: 3, pageHeight: 16 } as const;
    const image = await sharp(Buffer.from(Array.from({ length: 16 * 32 * 3 }, (_, i) => i % 251)), { raw })
      .webp()
      .toBuffer();
    expect(await inspectImage(image)).toMatchObject({ width: 16, height: 16, frames: 2 });
    expect(await decodeImage(image, options)).toHaveLength(16 * 16 * 3);
  });
});

describe('sniff', () => {
  it('names what a file is by its content', () => {
    const code = (text: string) => {
      try {
        return sniff(Buffer.from(text, 'latin1'));
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    expect(code('')).toBe('empty-file');
    expect(code('GIF89a....')).toBe('image-format');
    expect(code('II*\0....')).toBe('image-format');
    expect(code('\0\0\0 ftypavif')).toBe('image-format');
    expect(code('path,label')).toBe('not-an-image');
    expect(code('\xff\xd8\xff\xe0')).toBe('jpeg');
  });
});
