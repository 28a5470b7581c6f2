import { closeSync, openSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { NtaaClient } from '@ntaa/client';
import { StartError } from '@ntaa/config';
import type { AdaptRequest, Job, JobResult, Progress } from '@ntaa/contracts';
import { classOf, demoImages, writeArchive, type DemoImages } from './demo-images.js';
import { drawFront, frontOf } from './front.js';
import { aborted, onInterrupt } from './interrupt.js';
import { startStack, type Stack } from './stack.js';
import { duration, percent, ProgressLine, short, table } from './terminal.js';
import { unzip } from './unzip.js';
import { verifyBundle } from './verify.js';

/** The demo's job. Its budget keeps the whole command well under six minutes on two cores. */
const JOB: Omit<AdaptRequest, 'dataset'> = {
  kind: 'adapt',
  task: 'classification',
  supernet: 'tiny',
  budget: { max_seconds: 230 },
  seed: 0,
};
const OUTPUT = 'demo-output';

interface Scene {
  readonly client: NtaaClient;
  readonly images: DemoImages;
  /** Temporary folder. */
  readonly folder: string;
  readonly line: ProgressLine;
  readonly signal: AbortSignal;
}

/** Shows the main job end to end. Throws unless the downloaded model reproduces its reported accuracy. */
export async function demo(env: NodeJS.ProcessEnv): Promise<void> {
  const { signal, onSecond } = onInterrupt();
  const began = Date.now();
  const line = new ProgressLine(process.stdout);
  const images = await demoImages();
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'ntaa-demo-')));
  const logFile = join(folder, 'service.log');
  const log = openSync(logFile, 'a');
  let stack: Stack | undefined;
  try {
    line.say(
      '\nNTAA demo: adapts a pretrained network, architecture and weights together, to real images.\n',
    );
    stack = await startStack({
      env: demoEnvironment(env, join(folder, 'data')),
      output: log,
      say: (text) => line.say(`  ${text}`),
      signal,
    });
    const running = stack;
    onSecond(() => running.kill());
    line.say(
      `  Service   ${stack.url}  (API, Postgres, queue, storage, worker; engine ${stack.engine?.name ?? 'elsewhere'})`,
    );
    const client = new NtaaClient({ baseUrl: stack.url, apiKey: stack.key.secret });
    const work = perform({ client, images, folder, line, signal });
    await Promise.race([work, aborted(signal)]);
    line.say(`\n  Done in ${duration((Date.now() - began) / 1000)}.\n`);
  } catch (error) {
    line.clear();
    const said = tail(logFile);
    if (said && !signal.aborted) process.stderr.write(`\nThe service's last words:\n${said}\n`);
    throw error;
  } finally {
    await stack?.stop();
    closeSync(log);
    await rm(folder, { recursive: true, force: true });
  }
}

/** The caller's environment, but a stack of its own: nothing of a real installation is touched. */
function demoEnvironment(env: NodeJS.ProcessEnv, dataDir: string): NodeJS.ProcessEnv {
  const own = /^(HOST|PORT|DATABASE_URL|REDIS_URL|NTAA_API_KEY|NTAA_WORKERS|S3_.*|AWS_.*)$/;
  return {
    ...Object.fromEntries(Object.entries(env).filter(([name]) => !own.test(name))),
    HOST: '127.0.0.1',
    PORT: '0',
    NTAA_DATA_DIR: dataDir,
    NTAA_WORKERS: '1',
  };
}

const tail = (file: string): string => readFileSync(file, 'utf8').trimEnd().split('\n').slice(-20).join('\n');

async function perform(scene: Scene): Promise<void> {
  const { client, line } = scene;
  const dataset = await upload(scene);
  const started = await client.createJob({ ...JOB, dataset });
  line.say(`  Job       ${started.id}  budget ${duration(JOB.budget?.max_seconds ?? 0)}\n`);
  const { job, testPaths } = await watch(scene, started.id);
  const result = job.result;
  if (job.status !== 'succeeded' || !result?.model)
    throw new StartError(`The job ended as ${job.status}: ${job.error?.detail ?? 'no reason given'}`);

  const output = resolve(OUTPUT);
  await rm(output, { recursive: true, force: true });
  await mkdir(output);
  line.say(drawFront(frontOf(await client.candidates(job.id), result)));
  const bundle = await client.download(result.model, join(output, 'model.zip'));
  await unzip(bundle.path, join(output, 'model'));
  const picture = join(output, 'pareto.svg');
  await copyFile(join(output, 'model', 'report', 'pareto.svg'), picture);
  line.say(`\n${comparison(result)}\n`);
  await check(scene, join(output, 'model'), testPaths);
  conclude(line, output, picture);
}

async function upload({ client, images, folder, line, signal }: Scene): Promise<string> {
  const archive = join(folder, 'emoji.zip');
  await writeArchive(images, archive);
  const { id } = await client.uploadDataset(archive, { name: 'emoji', signal });
  const dataset = await client.datasetSettled(id, { signal });
  if (dataset.status !== 'ready')
    throw new StartError(`The images were refused: ${dataset.report?.error?.detail ?? 'no reason given'}`);
  const { counts } = dataset;
  line.say(`  Images    ${counts?.images} emoji in ${counts?.classes} classes: ${images.classes.join(', ')}`);
  return id;
}

/** Follows the job's events to its end. */
async function watch(scene: Scene, id: string): Promise<{ job: Job; testPaths: string[] }> {
  const { client, line, signal } = scene;
  let testPaths: string[] = [];
  for await (const { type, data } of client.events(id, { signal })) {
    if (type === 'progress') line.show(String(data['stage']), data as unknown as Progress);
    else if (type === 'split') {
      testPaths = data['test_paths'] as string[];
      line.say(
        `  Split     ${String(data['train'])} training, ${String(data['validation'])} validation, ` +
          `${String(data['test'])} test images (these are read once, at the end)\n`,
      );
    } else if (type === 'warning') line.say(`  Warning   ${String(data['detail'] ?? data['message'])}`);
  }
  line.clear();
  return { job: await client.job(id), testPaths };
}

function comparison(result: JobResult): string {
  const cells = (
    name: string,
    outcome: { metrics: JobResult['metrics']; macs: number; params: number },
    seconds: number | undefined,
  ): string[] => {
    const { top1, top1_interval: interval } = outcome.metrics as { top1: number; top1_interval: number[] };
    const [low = NaN, high = NaN] = interval;
    const accuracy = `${percent(top1)} [${percent(low)}, ${percent(high)}]`;
    const time = seconds === undefined ? '-' : seconds.toFixed(0);
    return [name, accuracy, short(outcome.macs), short(outcome.params), time];
  };
  const { baseline, largest, seconds } = result;
  const total = seconds?.['total'];
  const own = total === undefined ? undefined : total - (baseline?.seconds ?? 0);
  const rows = [
    ['', 'test accuracy [95%]', 'MACs', 'parameters', 'seconds'],
    cells('NTAA (architecture + weights)', result, own),
  ];
  if (baseline) rows.push(cells('WP&F (weights only)', baseline, baseline.seconds));
  if (largest) rows.push(cells('largest subnet, in the supernet', largest, undefined));
  return table(rows);
}

async function check({ images, line }: Scene, folder: string, testPaths: readonly string[]): Promise<void> {
  const held = testPaths.map((path) => {
    const file = images.files.get(path);
    if (file === undefined) throw new Error(`The job names a test image that was not uploaded: ${path}`);
    return { file, label: classOf(path) };
  });
  const checked = await verifyBundle(folder, held);
  const { correct, images: count, accuracy, reported, interval } = checked;
  const found = `${correct} of ${count} test images right, ${percent(accuracy)}`;
  if (!checked.reproduced)
    throw new StartError(
      `The downloaded model does not reproduce its accuracy: ${found} in onnxruntime, ` +
        `${percent(reported)} [${percent(interval[0])}, ${percent(interval[1])}] reported.`,
    );
  line.say(
    `  Checked   model.onnx in onnxruntime, from manifest.json alone: ${found} (reported ${percent(reported)})`,
  );
}

function conclude(line: ProgressLine, output: string, picture: string): void {
  const at = (path: string): string => `./${relative(process.cwd(), path)}`;
  line.say(
    [
      `  Model     ${at(join(output, 'model.zip'))}  (ONNX, TF.js, safetensors, model card; unpacked beside it)`,
      `  Report    ${at(join(output, 'model', 'report.html'))}  (open it in a browser)`,
      `  Picture   ${at(picture)}`,
      '',
      '  Your own images: npm start, then upload a zip of CLASS/IMAGE files to /v1/datasets; /docs shows the rest.',
    ].join('\n'),
  );
}
