/** What a stranger does with the bundle: onnxruntime, sharp, and nothing but manifest.json to go by. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ClassificationMetrics, Manifest, Preprocessing } from '@ntaa/contracts';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import sharp from 'sharp';

const BATCH = 64;

export interface LabelledImage {
  readonly file: string;
  readonly label: string;
}
export interface Verification {
  readonly correct: number;
  readonly images: number;
  readonly accuracy: number;
  readonly reported: number;
  /** 95%, as the manifest says. */
  readonly interval: readonly [number, number];
  readonly reproduced: boolean;
}

/** Accuracy of the unpacked bundle in `folder` on the given images, against what its manifest reports. */
export async function verifyBundle(folder: string, images: readonly LabelledImage[]): Promise<Verification> {
  const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Manifest;
  const session = await InferenceSession.create(join(folder, 'model.onnx'));
  let correct = 0;
  for (let from = 0; from < images.length; from += BATCH) {
    const batch = images.slice(from, from + BATCH);
    const predicted = await predict(session, manifest, batch);
    correct += batch.filter(({ label }, i) => label === predicted[i]).length;
  }
  const accuracy = correct / images.length;
  const { top1: reported, top1_interval: interval } = manifest.metrics as ClassificationMetrics;
  const reproduced = images.length > 0 && accuracy >= interval[0] && accuracy <= interval[1];
  return { correct, images: images.length, accuracy, reported, interval, reproduced };
}

async function predict(
  session: InferenceSession,
  { preprocessing, labels }: Manifest,
  batch: readonly LabelledImage[],
): Promise<(string | undefined)[]> {
  const { width, height } = preprocessing;
  const size = 3 * width * height;
  const pixels = new Float32Array(batch.length * size);
  await Promise.all(
    batch.map(async ({ file }, i) => pixels.set(await preprocess(file, preprocessing), i * size)),
  );
  const input = new Tensor('float32', pixels, [batch.length, 3, height, width]);
  const { logits } = await session.run({ image: input });
  if (!logits) throw new Error('model.onnx has no output "logits"');
  return batch.map((_, i) => {
    const row = logits.data.subarray(i * labels.length, (i + 1) * labels.length);
    return labels[row.indexOf(Math.max(...row))];
  });
}

/** One image as the network's input: float32 [3, height, width]. */
async function preprocess(file: string, p: Preprocessing): Promise<Float32Array> {
  const rgb = await sharp(file)
    .autoOrient()
    .flatten({ background: p.background })
    .toColourspace('srgb')
    .resize(p.width, p.height, { fit: p.fit, kernel: p.kernel, background: p.background })
    .raw()
    .toBuffer();
  const plane = p.width * p.height;
  const input = new Float32Array(3 * plane);
  for (let i = 0; i < plane; i++)
    for (let c = 0; c < 3; c++)
      input[c * plane + i] = ((rgb[3 * i + c] ?? 0) * p.scale - (p.mean[c] ?? 0)) / (p.std[c] ?? 1);
  return input;
}
