/** Runs stored models with onnxruntime. Sessions of the last few models are kept. */
import type { Preprocessing } from '@ntaa/contracts';
import type { InferenceSession } from 'onnxruntime-node';

/** Models held ready, and images that go through one at a time. */
const SESSIONS = 4;
const BATCH = 16;

/** Opens and remembers sessions; the least recently used one is released beyond SESSIONS. */
export class Runtimes {
  readonly #sessions = new Map<string, Promise<InferenceSession>>();

  /**
   * What a model makes of each of the images, given as uint8 RGB [height, width, 3]: its only output.
   * @param key identifies the weights (their hash). @param load reads model.onnx, input `image`.
   */
  async run(
    key: string,
    load: () => Promise<Uint8Array>,
    images: readonly Uint8Array[],
    preprocessing: Preprocessing,
  ): Promise<{ output: string; rows: Float32Array[] }> {
    const { Tensor } = await import('onnxruntime-node');
    const session = await this.#session(key, load);
    const { width, height } = preprocessing;
    const output = session.outputNames[0]!;
    const rows: Float32Array[] = [];
    for (let i = 0; i < images.length; i += BATCH) {
      const batch = images.slice(i, i + BATCH);
      const input = new Tensor('float32', toInput(batch, preprocessing), [batch.length, 3, height, width]);
      const results = await session.run({ image: input });
      const { data, dims } = results[output]!;
      const values = dims[1]!;
      for (let n = 0; n < batch.length; n++) rows.push(data.slice(n * values, (n + 1) * values));
    }
    return { output, rows };
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

export function softmax(logits: Float32Array): number[] {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const exp = Array.from(logits, (x) => Math.exp(x - most));
  const sum = exp.reduce((a, b) => a + b, 0);
  return exp.map((x) => x / sum);
}
