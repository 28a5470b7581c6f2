/** The main job as a user runs it: `npm start`, real processes, everything over HTTP. */
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { finished } from 'node:stream/promises';
import { Rng } from '@ntaa/random';
import { NtaaClient } from '@ntaa/client';
import type { ClassificationMetrics, Job, JobEvent, Manifest } from '@ntaa/contracts';
import * as onnx from 'onnxruntime-node';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { ZipFile } from 'yazl';
import { launch, processesOf, stop, type Service } from './setup/service.js';
import { unzip } from './setup/unzip.js';

let folder: string;
let service: Service;
let client: NtaaClient;
let dataset: string;
const images = new Map<string, Buffer>();
const CLASSES = ['disc', 'ring', 'square', 'cross'];

/** A 20 px grey picture of a shape: size, place, contrast and noise vary. */
async function shape(kind: number, serial: number): Promise<Buffer> {
  const rng = new Rng('shape', kind, serial);
  const [cx, cy, r] = [7 + 6 * rng.uniform(), 7 + 6 * rng.uniform(), 4 + 3 * rng.uniform()];
  const pixels = Buffer.alloc(400);
  for (let y = 0; y < 20; y++)
    for (let x = 0; x < 20; x++) {
      const [dx, dy] = [Math.abs(x - cx), Math.abs(y - cy)];
      const d = Math.hypot(dx, dy);
      const inside = [d < r, d < r && d > r - 2, Math.max(dx, dy) < r, Math.min(dx, dy) < 1.2 && d < r][
        kind
      ]!;
      pixels[20 * y + x] = Math.max(0, Math.min(255, (inside ? 200 : 60) + 40 * rng.normal()));
    }
  return sharp(pixels, { raw: { width: 20, height: 20, channels: 1 } })
    .png()
    .toBuffer();
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ntaa-main-'));
  service = await launch(folder, { NTAA_WORKERS: '2' });
  client = new NtaaClient({ baseUrl: service.url, apiKey: service.key });
  const zip = new ZipFile();
  for (let i = 0; i < 50 * CLASSES.length; i++) {
    const path = `${CLASSES[i % 4]}/${i}.png`;
    const bytes = await shape(i % 4, i);
    images.set(path, bytes);
    zip.addBuffer(bytes, path);
  }
  zip.end();
  const archive = join(folder, 'shapes.zip');
  await finished(zip.outputStream.pipe(createWriteStream(archive)));
  const uploaded = await client.uploadDataset(archive, { name: 'shapes' });
  dataset = (await client.datasetSettled(uploaded.id)).id;
}, 120_000);

afterAll(async () => {
  await stop(service);
  await rm(folder, { recursive: true, force: true });
});

const request = (extra: object = {}) =>
  ({
    kind: 'adapt',
    task: 'classification',
    dataset,
    seed: 3,
    budget: { max_candidates: 6 },
    ...extra,
  }) as const;

/** Follows a job to its end; `on` sees every event as it arrives. */
async function follow(
  id: string,
  on?: (event: JobEvent) => Promise<void>,
): Promise<{ job: Job; events: JobEvent[] }> {
  const events: JobEvent[] = [];
  for await (const event of client.events(id)) {
    events.push(event);
    await on?.(event);
  }
  return { job: await client.job(id), events };
}

async function downloaded(job: Job): Promise<Map<string, Buffer>> {
  const path = join(folder, `${job.id}.zip`);
  await client.download(job.result!.model!, path, 'bundle');
  return unzip(path);
}

/** Weight files, which must not depend on which job made them. */
const WEIGHTS = ['model.onnx', 'model.safetensors'];
let reference: Map<string, Buffer>;

/** Workers that have a trainer now, by process id. What the service tells of them may be ten seconds old. */
async function busyWorkers(): Promise<number[]> {
  const workers = (await processesOf(folder)).filter(({ args }) => args.includes('worker/lib/main.js'));
  const ps = spawn('ps', ['-eo', 'ppid=,args=']);
  const trainers = (await text(ps.stdout)).split('\n').filter((line) => line.includes('worker/lib/child.js'));
  const parents = new Set(trainers.map((line) => Number.parseInt(line, 10)));
  return workers.map(({ pid }) => pid).filter((pid) => parents.has(pid));
}

it('adapts two jobs at once, one of whose workers is killed in mid-search: the same seed gives the same bytes', async () => {
  const first = await client.createJob(request());
  await vi.waitUntil(async () => (await busyWorkers()).length > 0, { timeout: 30_000 });
  const [left] = await busyWorkers();
  const second = await client.createJob(request());
  let killed: number | undefined;
  const [a, b] = await Promise.all([
    follow(first.id),
    follow(second.id, async ({ type, data }) => {
      if (killed || type !== 'stage' || data['stage'] !== 'search') return;
      killed = (await busyWorkers()).find((pid) => pid !== left)!;
      process.kill(killed, 'SIGKILL');
    }),
  ]);
  expect(killed).toBeDefined();
  expect([a.job.attempt, b.job.attempt]).toEqual([1, 2]);
  for (const { job, events } of [a, b]) {
    expect(job.status, JSON.stringify(job.error)).toBe('succeeded');
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, i) => i + 1));
    expect(events.at(-1)!.type).toBe('done');
    const stages = events.filter(({ type }) => type === 'stage').map(({ data }) => data['stage']);
    const all = ['prepare', 'transfer', 'search', 'finetune', 'evaluate', 'export'];
    // The second attempt of a job reads its images again and goes on where it was.
    if (job.attempt === 1) expect(stages).toEqual(all);
    else expect([...new Set(stages)]).toEqual(all);
  }
  const candidates = await client.candidates(first.id);
  expect(candidates).toHaveLength(a.job.result!.search!.evaluated);
  expect(candidates.filter(({ selected }) => selected)).toHaveLength(1);
  expect(candidates.some(({ pareto }) => pareto)).toBe(true);
  reference = await downloaded(a.job);
  const other = await downloaded(b.job);
  for (const name of WEIGHTS) expect(other.get(name)!.equals(reference.get(name)!), name).toBe(true);
  expect(a.job.result!.baseline).toBeDefined();
  const { gain, curves } = a.job.result!;
  const split = a.events.find(({ type }) => type === 'split')!.data;
  expect(gain).toMatchObject({ metric: 'top1', images: split['validation'] });
  expect(gain!.finetuned).toEqual(expect.any(Number));
  for (const weights of [gain!.source_weights, gain!.transferred_weights])
    expect(Object.values(weights)).toEqual([expect.any(Number), expect.any(Number)]);
  expect(curves!.loss.map(({ network }) => network)).toEqual(
    expect.arrayContaining(['supernet', 'chosen', 'baseline']),
  );
  expect(b.job.result).toMatchObject({ gain, curves });
  const served = await fetch(`${service.url}/v1/models/${a.job.result!.model!}/report`, {
    headers: { authorization: `Bearer ${service.key}` },
  });
  expect(await served.text()).toBe(reference.get('report.html')!.toString());
  for (const picture of ['pareto', 'gain', 'architecture', 'confusion', 'calibration', 'learning-curves'])
    expect([...reference.keys()]).toContain(`report/${picture}.svg`);
}, 300_000);

it('delivers a model that a stranger with onnxruntime and sharp gets the reported accuracy from', async () => {
  const { data: jobs } = await client.jobs();
  const job = jobs.at(-1)!;
  const manifest = JSON.parse(reference.get('manifest.json')!.toString()) as Manifest;
  const { events } = await follow(job.id);
  const paths = events.find(({ type }) => type === 'split')!.data['test_paths'] as string[];
  const { width, height, fit, kernel, background, scale, mean, std } = manifest.preprocessing;
  const session = await onnx.InferenceSession.create(reference.get('model.onnx')!);
  let right = 0;
  for (const path of paths) {
    const pixels = await sharp(images.get(path)!)
      .rotate()
      .flatten({ background })
      .toColourspace('srgb')
      .resize(width, height, { fit, kernel, background })
      .raw()
      .toBuffer();
    const plane = width * height;
    const input = Float32Array.from({ length: 3 * plane }, (_, i) => {
      const c = Math.floor(i / plane);
      return (pixels[(i % plane) * 3 + c]! * scale - mean[c]!) / std[c]!;
    });
    const { logits } = await session.run({ image: new onnx.Tensor('float32', input, [1, 3, height, width]) });
    const row = logits!.data as Float32Array;
    const predicted = row.reduce((best, value, k) => (value > row[best]! ? k : best), 0);
    right += Number(path.startsWith(`${manifest.labels[predicted]}/`));
  }
  const reported = manifest.metrics as ClassificationMetrics;
  expect(paths).toHaveLength(manifest.metrics.images);
  expect(right / paths.length).toBeCloseTo(reported.top1, 6);
  expect(reported.top1).toBeGreaterThan(0.5);
}, 60_000);

it('keeps a seconds budget, stops with the best so far, cancels', async () => {
  const timed = await client.createJob(request({ budget: { max_seconds: 40 }, baseline: false }));
  const stopped = await client.createJob(request({ seed: 4, budget: { max_candidates: 40 } }));
  const [a, b] = await Promise.all([
    follow(timed.id),
    follow(stopped.id, async ({ type }) => {
      if (type === 'candidate') await client.act(stopped.id, 'stop').catch(() => undefined);
    }),
  ]);
  expect(a.job.status).toBe('succeeded');
  expect((Date.parse(a.job.finished_at!) - Date.parse(a.job.started_at!)) / 1000).toBeLessThan(44);
  expect(b.job).toMatchObject({ status: 'succeeded', stop_reason: 'user_stopped' });

  const cancelled = await client.createJob(request({ seed: 5 }));
  await client.act(cancelled.id, 'cancel');
  const end = await follow(cancelled.id);
  expect(end.job).toMatchObject({ status: 'cancelled', result: null });
}, 300_000);

it('pretrains a supernet from the same images and adapts from it', async () => {
  const made = await client.createJob({ kind: 'pretrain', dataset, name: 'mine', budget: { max_epochs: 1 } });
  const { job } = await follow(made.id);
  expect(job.status, JSON.stringify(job.error)).toBe('succeeded');
  const next = await client.createJob(
    request({ supernet: 'mine', baseline: false, budget: { max_candidates: 3 } }),
  );
  const adapted = await follow(next.id);
  expect(adapted.job.status).toBe('succeeded');
  const model = await client.model(adapted.job.result!.model!);
  expect(model.lineage.supernet).toBe(job.result!.supernet);
}, 300_000);

it('forgets nothing when it is stopped and started again', async () => {
  await stop(service);
  expect(await processesOf(folder)).toEqual([]);
  service = await launch(folder, { NTAA_WORKERS: '1' });
  client = new NtaaClient({ baseUrl: service.url, apiKey: service.key });
  const { data } = await client.jobs();
  expect(data.length).toBeGreaterThan(5);
  expect(await readFile(join(folder, 'api-key'), 'utf8')).toContain(service.key);
}, 120_000);
