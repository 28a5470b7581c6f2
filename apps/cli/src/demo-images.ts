import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { StartError } from '@ntaa/config';
import yazl from 'yazl';

/** The demo's images are real drawings, in the npm package emoji-datasource-twitter that `npm ci` has installed. */
const FOLDER = 'img/twitter/64';

interface Emoji {
  image: string;
  short_name: string;
  category: string;
  has_img_twitter: boolean;
}
export interface DemoImages {
  /** Path in the archive, CLASS/IMAGE.png, to the file on this machine. */
  readonly files: ReadonlyMap<string, string>;
  readonly classes: readonly string[];
}

const slug = (text: string): string =>
  text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');

/** Emoji of 64 x 64 px by their nine categories; skin tones alone ("Component") are no category. */
export async function demoImages(): Promise<DemoImages> {
  const require = createRequire(import.meta.url);
  let root: string;
  try {
    root = dirname(require.resolve('emoji-datasource-twitter/package.json'));
  } catch {
    throw new StartError(
      "The demo's images (npm package emoji-datasource-twitter) are not installed: run npm ci first.",
    );
  }
  const all = JSON.parse(await readFile(join(root, 'emoji.json'), 'utf8')) as Emoji[];
  const files = new Map<string, string>();
  // Variants by skin tone are entries inside an emoji's own: near-copies of one picture, which are left out.
  for (const { image, short_name, category, has_img_twitter } of all) {
    if (!has_img_twitter || category === 'Component') continue;
    const name = `${slug(short_name)}-${image}`.replace(/^-/, '');
    files.set(`${slug(category)}/${name}`, join(root, FOLDER, image));
  }
  const classes = [...new Set([...files.keys()].map(classOf))].sort();
  return { files, classes };
}

/** The class of an image of an image-folder archive. */
export const classOf = (path: string): string => path.slice(0, path.indexOf('/'));

/** Writes the images as an image-folder archive. */
export async function writeArchive({ files }: DemoImages, path: string): Promise<void> {
  const zip = new yazl.ZipFile();
  for (const [name, file] of files) zip.addFile(file, name, { compress: false });
  zip.end();
  await pipeline(zip.outputStream, createWriteStream(path));
}
