/** Every task as a user runs it: `npm start`, everything over HTTP, what is downloaded checked by an independent runtime. */
import { createWriteStream } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { NtaaClient, type ApiError } from '@ntaa/client';
import type {
  AdaptationMetrics,
  AdaptRequest,
  AgeMetrics,
  ClassificationMetrics,
  Job,
  Manifest,
  Preprocessing,
  ReidMetrics,
} from '@ntaa/contracts';
import { cost, smallest, taskSpace, tinySpace } from '@ntaa/nas';
import * as onnx from 'onnxruntime-node';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ZipFile } from 'yazl';
import { drawFace, drawPedestrian, drawShape, face } from './setup/people.js';
import { launch, stop, type Service } from './setup/service.js';
import { unzip } from './setup/unzip.js';

let folder: string;
let service: Service;
let client: NtaaClient;
/** Everything uploaded, by path: paths differ between datasets. */
const images = new Map<string, Buffer>();
const datasets = new Map<string, string>();

const FACES = 160;
const [PEOPLE, CAMERAS, SHOTS] = [30, 3, 2];
const SHAPES = ['disc', 'square', 'cross', 'ring'];
const SHAPE_IMAGES = 120;

async function upload(name: string, files: ReadonlyMap<string, Buffer | string>): Promise<void> {
  const zip = new ZipFile();
  for (const [path, data] of files) {
    const bytes = Buffer.from(data);
    zip.addBuffer(bytes, path);
    if (path !== 'labels.csv') images.set(path, bytes);
  }
  zip.end();
  const archive = join(folder, `${name}.zip`);
  await finished(zip.outputStream.pipe(createWriteStream(archive)));
  const { id } = await client.uploadDataset(archive, { name });
  const settled = await client.datasetSettled(id);
  expect(settled.status, JSON.stringify(settled.report?.error)).toBe('ready');
  datasets.set(name, id);
}

async function uploadFaces(): Promise<void> {
  const files = new Map<string, Buffer | string>();
  const rows = ['path,age,gender,skin_tone,identity'];
  for (let i = 0; i < FACES; i++) {
    const { age, gender, skin } = face(i);
    files.set(`face/${i}.png`, await drawFace({ age, gender, skin }, i));
    rows.push(`face/${i}.png,${age},${gender},${skin},person${i >> 1}`);
  }
  await upload('faces', files.set('labels.csv', rows.join('\n')));
}

async function uploadPedestrians(): Promise<void> {
  const files = new Map<string, Buffer | string>();
  const rows = ['path,identity,camera'];
  for (let person = 0; person < PEOPLE; person++)
    for (let camera = 0; camera < CAMERAS; camera++)
      for (let shot = 0; shot < SHOTS; shot++) {
        const path = `box/${person}-${camera}-${shot}.png`;
        files.set(path, await drawPedestrian(person, camera, shot));
        rows.push(`${path},p${person},c${camera}`);
      }
  await upload('pedestrians', files.set('labels.csv', rows.join('\n')));
}

/** Shapes by class folder; `shift` gives every image the label of another class. */
async function uploadShapes(name: string, style: 'screen' | 'paper', shift = 0): Promise<void> {
  const files = new Map<string, Buffer | string>();
  for (let i = 0; i < SHAPE_IMAGES; i++) {
    const label = SHAPES[(i + shift) % SHAPES.length]!;
    files.set(`${label}/${name}-${i}.png`, await drawShape(i % SHAPES.length, style, i));
  }
  await upload(name, files);
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ntaa-tasks-'));
  service = await launch(folder, { NTAA_WORKERS: '2' });
  client = new NtaaClient({ baseUrl: service.url, apiKey: service.key });
  await Promise.all([
    uploadFaces(),
    uploadPedestrians(),
    uploadShapes('screen', 'screen'),
    uploadShapes('paper', 'paper'),
  ]);
}, 120_000);

afterAll(async () => {
  await stop(service);
  await rm(folder, { recursive: true, force: true });
});

async function run(request: Omit<AdaptRequest, 'kind' | 'dataset'> & { dataset: string }): Promise<{
  job: Job;
  testPaths: string[];
  files: Map<string, Buffer>;
  manifest: Manifest;
}> {
  const { id } = await client.createJob({
    ...{ kind: 'adapt', seed: 1, budget: { max_candidates: 6 } },
    ...request,
    dataset: datasets.get(request.dataset) as `ds_${string}`,
  });
  let testPaths: string[] = [];
  for await (const { type, data } of client.events(id))
    if (type === 'split') testPaths = data['test_paths'] as string[];
  const job = await client.job(id);
  expect(job.status, JSON.stringify(job.error)).toBe('succeeded');
  const path = join(folder, `${id}.zip`);
  await client.download(job.result!.model!, path, 'bundle');
  const files = await unzip(path);
  const manifest = JSON.parse(files.get('manifest.json')!.toString()) as Manifest;
  return { job, testPaths, files, manifest };
}

async function pixelsOf(bytes: Buffer, p: Preprocessing): Promise<Float32Array> {
  const raw = await sharp(bytes)
    .autoOrient()
    .flatten({ background: p.background })
    .toColourspace('srgb')
    .resize(p.width, p.height, { fit: p.fit, kernel: p.kernel, background: p.background })
    .raw()
    .toBuffer();
  const plane = p.width * p.height;
  return Float32Array.from({ length: 3 * plane }, (_, i) => {
    const c = Math.floor(i / plane);
    return (raw[(i % plane) * 3 + c]! * p.scale - p.mean[c]!) / p.std[c]!;
  });
}

/** What the downloaded ONNX file makes of uploaded images: rows of its only output. */
async function answers(
  { files, manifest }: { files: Map<string, Buffer>; manifest: Manifest },
  paths: readonly string[],
): Promise<Float32Array[]> {
  const session = await onnx.InferenceSession.create(files.get('model.onnx')!);
  const { name } = manifest.outputs[0]!;
  const rows: Float32Array[] = [];
  const { width, height } = manifest.preprocessing;
  for (const path of paths) {
    const input = await pixelsOf(images.get(path)!, manifest.preprocessing);
    const results = await session.run({ image: new onnx.Tensor('float32', input, [1, 3, height, width]) });
    rows.push(results[name]!.data);
  }
  return rows;
}

const predictOne = async (job: Job, path: string) =>
  (await client.predict(job.result!.model!, [{ filename: 'one.png', bytes: images.get(path)! }]))[0]!;
const numberOf = (path: string) => Number(/(\d+)\.png$/.exec(path)![1]);
const card = (files: Map<string, Buffer>) => files.get('README.md')!.toString();

it('estimates ages: years out of the downloaded graph, subjects never in two splits, slices', async () => {
  const done = await run({ task: 'age-estimation', dataset: 'faces' });
  const { job, testPaths, files, manifest } = done;
  expect(manifest.outputs).toEqual([{ name: 'age', shape: ['N', 1] }]);
  const rows = await answers(done, testPaths);
  const errors = rows.map((row, i) => Math.abs(row[0]! - face(numberOf(testPaths[i]!)).age));
  const metrics = job.result!.metrics as AgeMetrics;
  expect(errors.reduce((a, b) => a + b) / errors.length).toBeCloseTo(metrics.mae, 2);
  expect(metrics.mae).toBeLessThan(0.6 * metrics.constant_mae);
  expect(metrics.slices!.map(({ column }) => column)).toContain('age_band');
  // Both pictures of a person are in the test, or neither is.
  const persons = testPaths.map((path) => numberOf(path) >> 1);
  expect(persons.every((person) => persons.filter((other) => other === person).length === 2)).toBe(true);
  expect(await predictOne(job, testPaths[0]!)).toMatchObject({ age: expect.closeTo(rows[0]![0]!, 2) });
  expect(job.result!.baseline!.metrics).toHaveProperty('mae');
  expect(card(files)).toMatch(/Mean absolute error \| \d+\.\d+ years \(95% interval/);
}, 300_000);

it('evaluates linearly: trains nothing, and what is downloaded carries the fitted classifier', async () => {
  const done = await run({
    ...{ task: 'age-estimation', dataset: 'faces', paradigm: 'linear-evaluation' },
    budget: { max_candidates: 24 },
  });
  const { job, testPaths, files } = done;
  const rows = await answers(done, testPaths);
  const errors = rows.map((row, i) => Math.abs(row[0]! - face(numberOf(testPaths[i]!)).age));
  const metrics = job.result!.metrics as AgeMetrics;
  expect(errors.reduce((a, b) => a + b) / errors.length).toBeCloseTo(metrics.mae, 2);
  expect(metrics.mae).toBeLessThan(0.8 * metrics.constant_mae);
  expect(job.result!.search!.evaluated).toBe(24);
  const { seconds } = job.result!;
  expect(Object.keys(seconds!)).toEqual(expect.arrayContaining(['search', 'finetune', 'baseline']));
  expect(seconds).not.toHaveProperty('transfer');
  expect(job.result!.baseline!.metrics).toHaveProperty('mae');
  expect(card(files)).toContain('nothing was finetuned');
}, 300_000);

it('pretrains without labels, and evaluates what came of it linearly', async () => {
  const files = new Map<string, Buffer | string>();
  for (let i = 0; i < SHAPE_IMAGES; i++)
    files.set(`plain/${i}.png`, await drawShape(i % SHAPES.length, 'screen', 1000 + i));
  const rows = [...files.keys()];
  await upload('plain', files.set('labels.csv', ['path', ...rows].join('\n')));
  const dataset = datasets.get('plain') as `ds_${string}`;
  const request = { kind: 'pretrain', paradigm: 'self-supervised', name: 'blind', seed: 1 } as const;
  const { id } = await client.createJob({ ...request, dataset, budget: { max_epochs: 8 } });
  for await (const event of client.events(id)) void event;
  const pretrained = await client.job(id);
  expect(pretrained.status, JSON.stringify(pretrained.error)).toBe('succeeded');
  const { queries, identities } = pretrained.result!.metrics as ReidMetrics;
  expect(queries).toBe(2 * identities);

  const done = await run({
    ...{ task: 'classification', dataset: 'screen', supernet: 'blind', baseline: false },
    paradigm: 'linear-evaluation',
  });
  const logits = await answers(done, done.testPaths);
  const right = done.testPaths.filter((path, i) => {
    const best = logits[i]!.indexOf(Math.max(...logits[i]!));
    return path.startsWith(`${done.manifest.labels[best]}/`);
  });
  const { top1 } = done.job.result!.metrics as ClassificationMetrics;
  expect(right.length / done.testPaths.length).toBeCloseTo(top1, 6);
}, 300_000);

it('recognises gender and says how well for whom', async () => {
  const done = await run({ task: 'gender-recognition', dataset: 'faces', baseline: false });
  const { job, testPaths, files, manifest } = done;
  expect(manifest.labels).toEqual(['female', 'male']);
  const metrics = job.result!.metrics as ClassificationMetrics;
  const rows = await answers(done, testPaths);
  const right = testPaths.filter((path, i) => {
    const answer = rows[i]![1]! > rows[i]![0]! ? 'male' : 'female';
    return answer === face(numberOf(path)).gender;
  });
  expect(right.length / testPaths.length).toBeCloseTo(metrics.top1, 6);
  expect(metrics.balanced_accuracy).toBeGreaterThan(0.75);
  const columns = new Set(metrics.slices!.map(({ column }) => column));
  expect([...columns].sort()).toEqual(['age_band', 'skin_tone']);
  const skins = metrics.slices!.filter(({ column }) => column === 'skin_tone');
  expect(skins.reduce((sum, slice) => sum + slice.images, 0)).toBe(testPaths.length);
  expect(card(files)).toMatch(/skin\\_tone \| dark \|[\s\S]*not what gender somebody has/);
}, 300_000);

/** Runs the program of docs/tasks.md as a reader would. */
async function searchGallery(model: string, paths: readonly string[]): Promise<void> {
  const docs = await readFile(new URL('../docs/tasks.md', import.meta.url), 'utf8');
  await writeFile(join(folder, 'gallery-search.mjs'), /```js\n([\s\S]*?)```/.exec(docs)![1]!);
  const files = paths.slice(0, 8).map((_, i) => join(folder, `box-${i}.png`));
  await Promise.all(files.map((file, i) => writeFile(file, images.get(paths[i]!)!)));
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [join(folder, 'gallery-search.mjs'), model, files[0]!, ...files],
    { env: { NTAA_URL: service.url, NTAA_API_KEY: service.key }, encoding: 'utf8' },
  );
  expect(stderr).toBe('');
  expect(stdout.split('\n')[0]).toBe(`1.0000 ${files[0]}`);
  expect(stdout.trim().split('\n')).toHaveLength(files.length);
}

it('finds people again whom it has never seen, by the protocol recomputed from the download', async () => {
  const done = await run({ task: 're-identification', dataset: 'pedestrians', baseline: false });
  const { job, testPaths, files, manifest } = done;
  expect(manifest.outputs[0]!.name).toBe('embedding');
  // Pictures twice as tall as wide are looked at as such: answers() below feeds the file what its manifest says.
  expect(manifest.preprocessing).toMatchObject({ width: 24, height: 48 });
  expect(job.result!.input).toEqual({ width: 24, height: 48 });
  expect(manifest.labels).toEqual([]);
  const rows = await answers(done, testPaths);
  const boxes = testPaths.map((path) => /(\d+)-(\d+)-/.exec(path)!.slice(1).map(Number));
  const precisions = boxes.map(([person, camera], q) => {
    const likeness = (i: number) => rows[q]!.reduce((sum, value, c) => sum + value * rows[i]![c]!, 0);
    const ranked = [...boxes.keys()]
      .filter((i) => boxes[i]![0] !== person || boxes[i]![1] !== camera)
      .sort((a, b) => likeness(b) - likeness(a));
    const places = ranked.flatMap((i, place) => (boxes[i]![0] === person ? [place + 1] : []));
    return places.reduce((sum, place, k) => sum + (k + 1) / place, 0) / places.length;
  });
  const metrics = job.result!.metrics as ReidMetrics;
  expect(precisions.reduce((a, b) => a + b) / precisions.length).toBeCloseTo(metrics.map, 3);
  expect(metrics).toMatchObject({ protocol: 'all-to-all', queries: testPaths.length, skipped_queries: 0 });
  expect(metrics.map).toBeGreaterThan(0.5);
  const prediction = await predictOne(job, testPaths[0]!);
  if (!('embedding' in prediction)) throw new Error('no embedding was predicted');
  expect(Math.hypot(...prediction.embedding)).toBeCloseTo(1, 4);
  prediction.embedding.forEach((value, c) => expect(Math.abs(value - rows[0]![c]!)).toBeLessThan(1e-4));
  await searchGallery(job.result!.model!, testPaths);
  expect(card(files)).toMatch(/24 x 48 px after preprocessing[\s\S]*Mean average precision/);
  expect(files.get('report.html')!.toString()).toContain('24 x 48 px');
}, 300_000);

it('adapts to a domain without its labels, which change nothing of the model', async () => {
  await uploadShapes('mislabelled', 'paper', 1);
  const request = { task: 'domain-adaptation', source_dataset: datasets.get('screen') as 'ds_' } as const;
  const [right, wrong] = await Promise.all([
    run({ ...request, dataset: 'paper', baseline: false }),
    run({ ...request, dataset: 'mislabelled', baseline: false }),
  ]);
  for (const name of ['model.onnx', 'model.safetensors'])
    expect(wrong.files.get(name)!.equals(right.files.get(name)!), name).toBe(true);
  const metrics = [right, wrong].map(({ job }) => job.result!.metrics as AdaptationMetrics);
  expect(metrics[0]!.oracle!.top1).toBeGreaterThan(0.6);
  expect(metrics[1]!.oracle!.top1).toBeLessThan(0.3);
  const { oracle: first, ...blind } = metrics[0]!;
  const { oracle: second, ...same } = metrics[1]!;
  expect(first).not.toEqual(second);
  expect(same).toEqual(blind);
  const rows = await answers(right, right.testPaths);
  const correct = right.testPaths.filter((path, i) => {
    const best = rows[i]!.indexOf(Math.max(...rows[i]!));
    return path.startsWith(`${right.manifest.labels[best]}/`);
  });
  expect(correct.length / right.testPaths.length).toBeCloseTo(metrics[0]!.oracle!.top1, 6);
}, 300_000);

it('says at once what a dataset lacks', async () => {
  const errors = async (task: AdaptRequest['task'], dataset: string, more: object = {}) => {
    const id = datasets.get(dataset) as `ds_${string}`;
    const refusal: unknown = await client
      .createJob({ kind: 'adapt', task, dataset: id, ...more })
      .catch((error: unknown) => error);
    return (refusal as ApiError).errors;
  };
  expect(await errors('age-estimation', 'screen')).toMatchObject([
    { pointer: '/dataset', code: 'column-missing', detail: expect.stringMatching(/images with age/) },
  ]);
  expect(await errors('re-identification', 'faces')).toMatchObject([
    { code: 'column-missing', detail: expect.stringMatching(/camera/) },
  ]);
  expect(await errors('classification', 'pedestrians')).toMatchObject([{ code: 'column-missing' }]);
  // Their pictures are twice as tall as wide, and so are the inputs that the cheapest network is counted for.
  const tall = taskSpace('re-identification', tinySpace, 2);
  const least = cost(tall, smallest(tall), 2).macs;
  expect(
    await errors('re-identification', 'pedestrians', { constraints: { max_macs: least - 1 } }),
  ).toMatchObject([{ pointer: '/constraints/max_macs', detail: `the nearest achievable value is ${least}` }]);
  expect(await errors('domain-adaptation', 'paper')).toMatchObject([
    { pointer: '/source_dataset', code: 'required' },
  ]);
  expect(await errors('classification', 'paper', { source_dataset: datasets.get('screen') })).toMatchObject([
    { pointer: '/source_dataset', code: 'unexpected' },
  ]);
});
