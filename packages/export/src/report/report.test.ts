import { createHash } from 'node:crypto';
import type { Gain, Metrics, TaskName } from '@ntaa/contracts';
import { cost, handDesigned, largest, taskSpace, tinySpace, wilsonInterval } from '@ntaa/nas';
import { Rng } from '@ntaa/random';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { decompose } from './gain.js';
import { reportInput } from './fixtures.js';
import { renderReport } from './index.js';
import type { ReportInput, Subject } from './input.js';

const EVIL = [
  '<script>alert(1)</script>',
  '"><img src=x onerror=alert(1)>',
  `' onload='alert(1)`,
  '</svg></title></style><script>alert(1)</script>',
  '&lt;script&gt; &#60;b&#62; ]]> <!-- -->',
  '\u202Egnp.exe\u2066\u200B',
  'שלום עולם',
  '\u0000\u001B[31m\uFFFE\uD800\uDC00 \uD800',
  'javascript:alert(1)',
  'x'.repeat(10_000),
  'e\u0301'.repeat(5_000),
  '猫 🐈',
];
const GENOTYPE = { ...handDesigned(tinySpace), resolution: 48 };

function classified(top1: number, count: number, rng = new Rng('confusion')): Metrics {
  const images = 20 * count;
  return {
    top1,
    top1_interval: wilsonInterval(Math.round(top1 * images), images),
    top5: 0.95,
    balanced_accuracy: top1,
    loss: 0.5,
    ece: 0.04,
    calibration: [
      { images: 20, confidence: 0.4, accuracy: 0.3 },
      { images: 100, confidence: 0.9, accuracy: 0.93 },
    ],
    ...(count <= 100 && {
      confusion: Array.from({ length: count }, (_, i) =>
        Array.from({ length: count }, (_, j) => (i === j ? 14 : rng.int(3))),
      ),
    }),
    images,
  };
}

function subject(
  labels: readonly string[],
  more: { metrics?: Metrics; job?: Partial<ReportInput> } = {},
): Subject {
  const metrics = more.metrics ?? classified(0.8, labels.length);
  const network = (genotype: typeof GENOTYPE) => {
    const { macs, params } = cost(tinySpace, genotype, Math.max(2, labels.length));
    return { genotype, macs, params };
  };
  return {
    manifest: {
      ...{ schema_version: 1, task: 'classification', labels: [...labels], metrics },
      ...network(GENOTYPE),
      outputs: [{ name: 'logits', shape: ['N', labels.length] }],
      preprocessing: {
        ...{ width: 48, height: 48, channels: 'RGB', fit: 'contain', kernel: 'lanczos3', scale: 1 / 255 },
        ...{ background: { r: 255, g: 255, b: 255 }, mean: [0, 0, 0], std: [1, 1, 1] },
      },
      lineage: {
        ...{ job: 'job_1', supernet: 'sn_1', supernet_sha256: 'a'.repeat(64), dataset: 'ds_1' },
        ...{ dataset_sha256: 'b'.repeat(64), seed: 7, engine: 'wasm', version: '0.1.0' },
      },
    },
    card: {
      dataset: { name: 'ds_1', images: { train: 1600, validation: 200, test: 200 } },
      supernet: { name: 'tiny', source: 'formula-driven images' },
      classes: labels.map((_, k) => ({ images: 20, correct: 20 - (k % 9) })),
      baseline: { metrics, ...network(handDesigned(tinySpace)) },
      largest: { metrics, ...network(largest(tinySpace)) },
      finetuned: true,
      limits: ['Trained on few images.'],
    },
    job: { ...reportInput(tinySpace, GENOTYPE), ...more.job },
  };
}

const page = (of: Subject): string => renderReport(of).get('report.html')!;

/** Tags and their attributes, as a parser without mercy for sloppy markup sees them. */
function tags(markup: string): { name: string; attributes: string }[] {
  const without = markup.replace(/<style>.*?<\/style>/gs, '');
  return [...without.matchAll(/<\/?([a-zA-Z!][^\s/>]*)((?:\s+[^\s=>]+(?:="[^"<>]*")?)*)\s*\/?>/g)].map(
    ([, name, attributes]) => ({ name: name!.toLowerCase(), attributes: attributes! }),
  );
}

describe.each([
  ['hostile', EVIL],
  ['a hundred', Array.from({ length: 100 }, (_, k) => EVIL[k % EVIL.length]! + k)],
  ['a thousand', Array.from({ length: 1000 }, (_, k) => EVIL[k % EVIL.length]!)],
])('%s labels', (_name, labels) => {
  const slices = labels.map((value, k) => ({
    ...{ column: EVIL[k % 7]!, value, images: 9, accuracy: 0.5 },
    accuracy_interval: [0.2, 0.8] as [number, number],
  }));
  const files = renderReport(
    subject(labels, { metrics: { ...classified(0.8, labels.length), slices } as Metrics }),
  );

  it('stay text, in a page of less than 2 MB that asks for nothing', () => {
    for (const [name, content] of files) {
      const found = tags(content);
      // Nothing that looks like a tag is left over: every < of the file opened one of these.
      expect(content.replace(/<style>.*?<\/style>/gs, '').match(/</g)!.length, name).toBe(found.length);
      const names = new Set(found.map((tag) => tag.name));
      for (const forbidden of [
        'script',
        'img',
        'iframe',
        'object',
        'link',
        'use',
        'image',
        'foreignobject',
        'a',
      ])
        expect(names, name).not.toContain(forbidden);
      for (const { attributes } of found) expect(attributes).not.toMatch(/\s(on\w+|style|href|src)=/);
      expect(content.replaceAll('http://www.w3.org/2000/svg', ''), name).not.toMatch(/https?:|url\(|@import/);
      expect(content, name).not.toMatch(/[^\n\P{C}]|\p{Noncharacter_Code_Point}/u);
      expect(content, name).not.toMatch(/NaN|Infinity|undefined/);
      expect(Buffer.byteLength(content), name).toBeLessThan(2_000_000);
    }
    expect(files.get('report.html')).toContain('⟨U+202E⟩gnp.exe');
    expect(files.get('report.html')).toContain('&#60;script&#62;');
  });

  it('are SVG that another library draws', async () => {
    for (const [name, content] of files)
      if (name.endsWith('.svg')) {
        const { width, height } = await sharp(Buffer.from(content)).metadata();
        expect(Math.min(width, height), name).toBeGreaterThan(100);
      }
  });
});

describe('the page', () => {
  const html = page(subject(['cat', 'dog']));

  it('allows its own style and nothing else', () => {
    const style = /<style>(.*?)<\/style>/s.exec(html)![1]!;
    const hash = createHash('sha256').update(style).digest('base64');
    expect(html).toContain(`content="default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'`);
    expect(html.match(/<style/g)).toHaveLength(1);
  });

  it('names every picture and every table, and no id twice', () => {
    const ids = [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id!);
    expect(new Set(ids).size).toBe(ids.length);
    const pictures = [...html.matchAll(/<svg [^>]*role="img" aria-labelledby="(\S+) (\S+)"/g)];
    expect(pictures).toHaveLength(html.match(/<svg/g)!.length);
    for (const [, title, description] of pictures)
      expect(ids).toEqual(expect.arrayContaining([title, description]));
    expect(html.match(/<caption>/g)).toHaveLength(html.match(/<table>/g)!.length);
    expect(html).toContain('<html lang="en">');
  });

  it('is the same for the same job, whenever it is made', () => {
    expect(page(subject(['cat', 'dog']))).toBe(html);
  });

  it('says what changed from the best architecture of the source', () => {
    expect(html).toContain('Resolution stays 48 px.');
    expect(html).toContain('Depth 9 blocks becomes 6.');
    expect(html).toContain('left out (was 5x5, x4)');
  });

  it('tells parts of the gain that add up, and which figures are of the test', () => {
    const { gain } = reportInput(tinySpace, GENOTYPE);
    const parts = decompose(gain!)!;
    expect(parts.architecture).toBeCloseTo((0.08 + 0.06) / 2);
    expect(parts.weights).toBeCloseTo((0.3 + 0.28) / 2);
    expect(parts.start + parts.architecture + parts.weights + parts.finetuning!).toBeCloseTo(0.74);
    expect(html).toContain('+7.0 points');
    expect(html).toContain('On test images the delivered network has accuracy 80.0%');
  });

  it('says by how much the chosen architecture was better, or that it was not', () => {
    const { gain, ...job } = reportInput(tinySpace, GENOTYPE);
    const told = (choice: Exclude<Gain['choice'], undefined>) =>
      page(subject(['cat', 'dog'], { job: { ...job, gain: { ...gain!, choice } } }));
    const found = { genotype: GENOTYPE, macs: 1_510_000, less: -0.0063, error: 0.008, taken: false };
    expect(told(found)).toContain('(1.51 M MACs)');
    expect(told(found)).toContain('lower by 0.0063 (standard error of the difference 0.0080)');
    expect(told(found)).toContain('so the latter was kept');
    expect(told({ ...found, less: -0.05, taken: true })).toContain('so it was taken');
    expect(told({ ...found, less: 0.02 })).toContain('higher by 0.020');
    expect(told({ ...found, error: null })).toContain('unknown, from one image');
    expect(told(null)).toContain('is the one that weights-only adaptation uses.');
    expect(html).not.toContain('The best architecture that the search found');
  });

  it('invents nothing that was not measured', () => {
    const { gain, ...job } = reportInput(tinySpace, GENOTYPE);
    const cut = { ...gain!, source_weights: { reference: 0.3, chosen: null } };
    const partly = page(subject(['cat', 'dog'], { job: { ...job, gain: cut } }));
    expect(decompose(cut)).toBeNull();
    expect(partly).toContain('not measured');
    expect(partly).not.toContain('Parts of the gain<');
    const bare = { gain: null, curves: { loss: [], judged: [] }, source: null, candidates: [] };
    const without = page(subject(['cat', 'dog'], { job: bare }));
    expect(without).toContain('The parts of the gain were not measured by this job.');
    expect(without).not.toContain('Learning curves');
  });

  it('stays small after a hundred thousand candidates', () => {
    const { candidates } = reportInput(tinySpace, GENOTYPE);
    const many = Array.from({ length: 100_000 }, (_, i) => ({ ...candidates[3]!, macs: 1e6 + i }));
    const files = renderReport(subject(['cat', 'dog'], { job: { candidates: [...candidates, ...many] } }));
    expect(files.get('report.html')!.length).toBeLessThan(400_000);
    expect(files.get('report.html')).toContain('100,004 architectures were judged');
  });
});

const OTHERS: Record<string, { metrics: Metrics; key: string; expected: string[] }> = {
  'age-estimation': {
    key: 'mae',
    metrics: {
      ...{ mae: 4.25, mae_interval: [3.9, 4.6], cs5: 0.7, cs5_interval: [0.6, 0.8], constant_mae: 14 },
      slices: [
        {
          column: 'age_band',
          value: '0-9',
          images: 5,
          accuracy: 0.8,
          accuracy_interval: [0.4, 0.96],
          mae: 3,
        },
      ],
      images: 100,
    },
    expected: ['4.25 years (95% interval 3.90 years to 4.60 years)', 'lower is better', 'age_band'],
  },
  're-identification': {
    key: 'map',
    metrics: {
      ...{ map: 0.61, map_interval: [0.55, 0.67], rank1: 0.7, rank1_interval: [0.6, 0.8], rank5: 0.9 },
      ...{ rank10: 0.95, queries: 80, skipped_queries: 2, gallery: 100, identities: 20 },
      ...{ protocol: 'all-to-all', images: 100 },
    },
    expected: ['Rank-1', '61.0% (55.0% to 67.0%)'],
  },
  'domain-adaptation': {
    key: 'source_top1',
    metrics: {
      source_top1: 0.9,
      confidence: 0.8,
      information: 1.5,
      oracle: classified(0.75, 2) as never,
      images: 40,
    },
    expected: [
      'accuracy on the labelled source',
      'Top-1 accuracy, target (held-out labels)',
      'Confusion matrix',
    ],
  },
};
/** Texts of a picture that run into their neighbour or out of the picture, by a common font's widths. */
function overflowing(svg: string): string[] {
  const texts = [...svg.matchAll(/<text x="([\d.]+)" y="([\d.]+)"(?: class="([^"]*)")?>([^<]*)</g)].map(
    ([, x, y, style = '', words]) => {
      const size = style.includes('title') ? 16 : style.includes('small') ? 11 : 13;
      const wide = /title|strong/.test(style) ? 0.58 : 0.52;
      const text = words!.replaceAll(/&#\d+;/g, '?');
      return { x: Number(x), y: Number(y), text, end: Number(x) + wide * size * text.length };
    },
  );
  const width = Number(/ width="(\d+)"/.exec(svg)![1]);
  const right = ({ x, y }: (typeof texts)[number]) =>
    Math.min(width, ...texts.filter((other) => other.y === y && other.x > x).map((other) => other.x));
  return texts.filter((text) => text.end > right(text)).map(({ text }) => text);
}

it.each(Object.entries(OTHERS))('%s has its own metrics and pictures', (task, { metrics, key, expected }) => {
  const given = subject(task === 'domain-adaptation' ? ['a', 'b'] : [], { metrics });
  const tall = task === 're-identification' ? 2 : 1;
  const space = taskSpace(task as TaskName, tinySpace, tall);
  const job = { ...given.job, ...reportInput(space, GENOTYPE, key) };
  const { classes, ...card } = given.card;
  const files = renderReport({ manifest: { ...given.manifest, task }, card, job });
  for (const words of expected) expect(files.get('report.html')).toContain(words.replaceAll('&', '&#38;'));
  expect([...files.keys()]).toContain('report/pareto.svg');
  expect(files.get('report/pareto.svg')).not.toMatch(/NaN|Infinity|undefined/);
  for (const [name, content] of files)
    if (name.endsWith('.svg')) expect(overflowing(content), name).toEqual([]);
  if (tall > 1) expect(files.get('report/architecture.svg')).toContain('48x96 px');
  expect(classes).toHaveLength(given.manifest.labels.length);
});
