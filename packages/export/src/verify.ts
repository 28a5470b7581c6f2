/** Runs the written files in their own runtimes and compares them with the service's outputs. */
import { JobError } from '@ntaa/contracts';
import { tf } from '@ntaa/engine';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** What the exported files must reproduce. */
export interface VerifyInput {
  /** Normalised images [n, H, W, 3], row-major. */
  images: Float32Array;
  n: number;
  /** The service's own outputs for them, [n, K]. */
  outputs: Float32Array;
}

/** Name of the output, and size of the input, px. */
interface VerifiedNetwork {
  output: string;
  width: number;
  height: number;
}

/** Largest difference allowed, of an output of magnitude up to 1; larger outputs may differ in proportion. */
export const TOLERANCE = 1e-4;

/**
 * Largest differences found, as `TOLERANCE` measures them.
 * @throws {JobError} `export-verification-failed` naming the file and the difference.
 */
export async function verifyFiles(
  paths: { onnx: string; tfjs: string },
  network: VerifiedNetwork,
  expected: VerifyInput,
): Promise<{ onnx: number; tfjs: number }> {
  const { images, n } = expected;
  const { width, height } = network;
  if (n < 1 || images.length !== n * height * width * 3)
    throw new Error(`verification needs [n, ${height}, ${width}, 3] values, got ${images.length}`);
  const onnx = compare('model.onnx', await runOnnx(paths.onnx, network, expected), expected.outputs);
  const tfjs = compare('tfjs/model.json', await runTfjs(paths.tfjs, network, expected), expected.outputs);
  return { onnx, tfjs };
}

function compare(file: string, actual: Float32Array, expected: Float32Array): number {
  const failed = (problem: string) =>
    new JobError('export-verification-failed', `${file} does not reproduce the trained network: ${problem}`);
  if (actual.length !== expected.length)
    throw failed(`${actual.length} output values instead of ${expected.length}`);
  let worst = 0;
  expected.forEach((value, i) => {
    const difference = Math.abs(actual[i]! - value) / Math.max(1, Math.abs(value));
    // A NaN anywhere must not look like agreement.
    if (!(difference <= worst)) worst = Number.isNaN(worst) ? worst : difference;
  });
  if (!(worst <= TOLERANCE))
    throw failed(`outputs differ by ${worst.toExponential(2)}, allowed is ${TOLERANCE.toExponential(0)}`);
  return worst;
}

async function runOnnx(
  path: string,
  { output, width, height }: VerifiedNetwork,
  input: VerifyInput,
): Promise<Float32Array> {
  // Loaded late: the native library costs 20 MB, and only an export needs it.
  const { InferenceSession, Tensor } = await import('onnxruntime-node');
  const session = await InferenceSession.create(path, {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    enableCpuMemArena: false,
    enableMemPattern: false,
    logSeverityLevel: 3,
  });
  try {
    const shape = [input.n, 3, height, width];
    const image = new Tensor('float32', toNchw(input.images, height * width), shape);
    const results = await session.run({ image });
    return results[output]!.data;
  } finally {
    await session.release();
  }
}

/** [n, H, W, 3] to [n, 3, H, W]; `area` is H * W. */
function toNchw(images: Float32Array, area: number): Float32Array {
  return Float32Array.from(images, (_, i) => {
    const image = Math.floor(i / (3 * area));
    const channel = Math.floor(i / area) % 3;
    return images[(image * area + (i % area)) * 3 + channel]!;
  });
}

async function runTfjs(
  folder: string,
  { width, height }: VerifiedNetwork,
  input: VerifyInput,
): Promise<Float32Array> {
  const { loadGraphModel } = await import('@tensorflow/tfjs-converter');
  const model = await loadGraphModel(tf.io.fromMemory(await readArtifacts(folder)));
  try {
    const logits = tf.tidy(
      () => model.predict(tf.tensor4d(input.images, [input.n, height, width, 3])) as tf.Tensor,
    );
    const values = await logits.data<'float32'>();
    logits.dispose();
    return values;
  } finally {
    model.dispose();
  }
}

/** A model folder as tfjs keeps it in memory. */
async function readArtifacts(folder: string): Promise<tf.io.ModelArtifacts> {
  const model = JSON.parse(await readFile(join(folder, 'model.json'), 'utf8')) as tf.io.ModelJSON;
  const groups = model.weightsManifest;
  const shards = await Promise.all(
    groups.flatMap((group) => group.paths).map((name) => readFile(join(folder, name))),
  );
  const { modelTopology, format, signature, userDefinedMetadata } = model;
  return {
    modelTopology,
    ...(format && { format }),
    ...(signature && { signature }),
    ...(userDefinedMetadata && { userDefinedMetadata }),
    weightSpecs: groups.flatMap((group) => group.weights),
    weightData: new Uint8Array(Buffer.concat(shards)).buffer,
  };
}
