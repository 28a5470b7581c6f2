// Sets for tasks other than classification, as archives' members: {path, bytes}, the annotations among them.
// `emoji-vendors` and `emoji-domains` need a second vendor's pictures: npm install --no-save emoji-datasource-google
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import sharp from 'sharp';
import { Rng } from '../../packages/random/lib/index.js';

const require = createRequire(import.meta.url);
const VENDORS = ['twitter', 'google'];

export const taskSets = {
  faces: () => faces(),
  'faces-other': () => faces({ from: 5000, count: 700 }),
  'faces-lit': () => faces({ from: 9000, lights: true }),
  pedestrians: () => pedestrians(),
  'pedestrians-other': () => pedestrians({ from: 5000, count: 100 }),
  'emoji-vendors': emojiVendors,
  'emoji-gender': emojiGender,
  digits,
};

/** What the tests draw: compiled from TypeScript, where its packages are found. */
async function people() {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const outfile = join(root, 'node_modules/.cache/ntaa-bench/people.mjs');
  const entry = join(root, 'test/setup/people.ts');
  buildSync({
    entryPoints: [entry],
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
  });
  return import(outfile);
}

const annotations = (rows) => ({ path: 'labels.csv', bytes: Buffer.from(rows.join('\n')) });

/** Generated faces with age and gender; `lights`: each under a light of its own, as photographs are. */
async function* faces({ from = 0, count = 1000, lights = false } = {}) {
  const { drawFace, face } = await people();
  const rows = ['path,age,gender,skin_tone'];
  for (let i = from; i < from + count; i++) {
    const { age, gender, skin } = face(i);
    rows.push(`${i}.png,${age},${gender},${skin}`);
    const drawn = await drawFace({ age, gender, skin }, i);
    yield { path: `${i}.png`, bytes: lights ? await lit(drawn, new Rng('light', i)) : drawn };
  }
  yield annotations(rows);
}

/** Brighter or darker by up to a quarter, each colour by up to a tenth more. */
async function lit(png, rng) {
  const change = (most) => 1 + most * (2 * rng.uniform() - 1);
  const brightness = change(0.25);
  const gains = [0, 1, 2].map(() => brightness * change(0.1));
  return sharp(png).linear(gains, [0, 0, 0]).png().toBuffer();
}

/** Generated people of 32 x 64 px, twice before each of three cameras. */
async function* pedestrians({ from = 0, count = 150 } = {}) {
  const { drawPedestrian } = await people();
  const rows = ['path,identity,camera'];
  for (let person = from; person < from + count; person++)
    for (let camera = 0; camera < 3; camera++)
      for (let shot = 0; shot < 2; shot++) {
        const path = `${person}-${camera}-${shot}.png`;
        rows.push(`${path},${person},${camera}`);
        yield { path, bytes: await drawPedestrian(person, camera, shot, 2) };
      }
  yield annotations(rows);
}

/** Pictures of a vendor: {unified, name, category, image bytes}, without components; with the five skin tones if asked for. */
export function* pictures(vendor, tones = false) {
  const folder = dirname(require.resolve(`emoji-datasource-${vendor}/package.json`));
  const flag = `has_img_${vendor}`;
  for (const emoji of JSON.parse(readFileSync(join(folder, 'emoji.json'), 'utf8'))) {
    if (!emoji[flag] || emoji.category === 'Component') continue;
    const variants = tones ? Object.entries(emoji.skin_variations ?? {}).filter(([, v]) => v[flag]) : [];
    for (const [tone, { image }] of [['none', emoji], ...variants])
      yield { ...emoji, tone, bytes: readFileSync(join(folder, `img/${vendor}/64`, image)) };
  }
}

/** Every third emoji by two vendors: the identity is the emoji, the camera the vendor. */
function* emojiVendors() {
  const rows = ['path,identity,camera'];
  for (const vendor of VENDORS) {
    let serial = 0;
    for (const { unified, bytes } of pictures(vendor)) {
      if (serial++ % 3 !== 0) continue;
      const path = `${vendor}/${unified}.png`;
      rows.push(`${path},${unified},${vendor}`);
      yield { path, bytes };
    }
  }
  yield annotations(rows);
}

/** Women and men doing the same, in six skin tones; who does what never crosses splits. */
function* emojiGender() {
  const rows = ['path,gender,identity,skin_tone'];
  const all = [...pictures('twitter', true)];
  const parse = (name) => /^(wo)?man[-_](.+)$/.exec(name);
  const names = new Set(all.map(({ short_name }) => short_name));
  for (const { short_name, unified, tone, bytes } of all) {
    const [, woman, doing] = parse(short_name) ?? [];
    if (!doing || /boy|girl|heart|kiss|man/.test(doing)) continue;
    const other = short_name.replace(/^(wo)?man/, woman ? 'man' : 'woman');
    if (!names.has(other)) continue;
    const path = `${unified}-${tone}.png`;
    rows.push(`${path},${woman ? 'female' : 'male'},${doing},${tone}`);
    yield { path, bytes };
  }
  yield annotations(rows);
}

/** The 1,797 digits of UCI's test set, 8 x 8 px, as scikit-learn brings them (python3-sklearn). */
async function* digits() {
  const program = 'import json;from sklearn.datasets import load_digits as d;s=d();print(json.dumps([s.images.tolist(),s.target.tolist()]))'; // prettier-ignore
  const { status, stdout } = spawnSync('/usr/bin/python3', ['-c', program], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  });
  if (status !== 0) throw new Error('the set digits needs scikit-learn in /usr/bin/python3');
  const [images, labels] = JSON.parse(stdout);
  for (const [i, image] of images.entries()) {
    const pixels = Uint8Array.from(image.flat(), (x) => Math.min(255, 16 * x));
    const bytes = await sharp(pixels, { raw: { width: 8, height: 8, channels: 1 } })
      .png()
      .toBuffer();
    yield { path: `${labels[i]}/${i}.png`, bytes };
  }
}
