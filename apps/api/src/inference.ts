/** Runs stored classifiers with onnxruntime. Sessions of the last few models are kept. */
import type { Preprocessing } from '@ntaa/contracts';
import type { InferenceSession } from 'onnxruntime-node';

/** Models held ready, and images that go through one at a time. */
const SESSIONS = 4;
const BATCH = 16;

/** Opens and remembers sessions; the least recently used one is released beyond SESSIONS. */
export class Classifiers {
  readonly #sessions = new Map<string, Promise<InferenceSession>>();

  /**
   * Class probabilities [image][class] of images given as uint8 RGB [height, width, 3].
   * @param key identifies the weights (their hash). @param load reads model.onnx, input `image`, output `logits`.
   */
  async classify(
    key: string,
    load: () => Promise<Uint8Array>,
    images: readonly Uint8Array[],
    preprocessing: Preprocessing,
  ): Promise<number[][]> {
    const { Tensor } = await import('onnxruntime-node');
    const session = await this.#session(key, load);
    const { width, height } = preprocessing;
    const probabilities: number[][] = [];
    for (let i = 0; i < images.length; i += BATCH) {
      const batch = images.slice(i, i + BATCH);
      const input = new Tensor('float32', toInput(batch, preprocessing), [batch.length, 3, height, width]);
      const { logits } = await session.run({ image: input }, ['logits']);
      const classes = logits!.dims[1]!;
      const data = logits!.data;
      for (let n = 0; n < batch.length; n++)
        probabilities.push(softmax(data.subarray(n * classes, (n + 1) * classes)));
    }
    return probabilities;
  }

  async #session(key: string, load: () => Promise<Uint8Array>): Promise<InferenceSession> {
    let session = this.#sessions.get(key);
    this.#sessions.delete(key);
    session ??= load().then(async (bytes) => {
      const { InferenceSession } = await import('onnxruntime-node');
      return InferenceSession.create(bytes, {
        intraOpNumThreads: 1,
        interOpNumThreads: 1,
        executionMode: 'sequential',
        // Models here are small: nothing is gained by keeping memory for the next run.
        enableCpuMemArena: false,
      });
    });
    this.#sessions.set(key, session);
    session.catch(() => this.#sessions.delete(key));
    // The evicted session may be in use: the garbage collector frees it when nobody is.
    const oldest = this.#sessions.keys().next().value;
    if (this.#sessions.size > SESSIONS && oldest !== undefined) this.#sessions.delete(oldest);
    return session;
  }
}

/** (x * scale - mean) / std per channel, from uint8 [H, W, 3] each to float32 [N, 3, H, W]. */
function toInput(
  images: readonly Uint8Array[],
  { width, height, scale, mean, std }: Preprocessing,
): Float32Array {
  const pixels = width * height;
  const out = new Float32Array(images.length * 3 * pixels);
  images.forEach((image, n) => {
    for (let c = 0; c < 3; c++)
      for (let p = 0; p < pixels; p++)
        out[(n * 3 + c) * pixels + p] = (image[3 * p + c]! * scale - mean[c]!) / std[c]!;
  });
  return out;
}

function softmax(logits: Float32Array): number[] {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const exp = Array.from(logits, (x) => Math.exp(x - most));
  const sum = exp.reduce((a, b) => a + b, 0);
  return exp.map((x) => x / sum);
}
