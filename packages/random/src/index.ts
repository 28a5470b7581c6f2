/**
 * Seeded randomness: every random number of a job derives from a path such as (seed, 'transfer', step, subnet), never
 * from a shared stream, so that resuming, parallelism or an added draw elsewhere changes nothing.
 * Generator: sfc32 (PractRand-tested, 128 bits of state), seeded by FNV-1a over the path.
 */
export class Rng {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(...path: readonly (string | number)[]) {
    const text = path.map((part) => `${typeof part === 'number' ? '#' : '$'}${part}`).join('/');
    this.#a = fnv1a(text, 0x811c9dc5);
    this.#b = fnv1a(text, 0x9747b28c);
    this.#c = fnv1a(text, 0x3c6ef372);
    for (let i = 0; i < 15; i++) this.uint32();
  }

  /** Uniform integer in [0, 2^32). */
  uint32(): number {
    const t = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + t) | 0;
    return t >>> 0;
  }

  /** Uniform in [0, 1), 32 bits of resolution. */
  uniform(): number {
    return this.uint32() / 4294967296;
  }

  /** Uniform integer in [0, n). */
  int(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** Standard normal, Box-Muller (one value a call, so that the stream's position does not depend on history). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Index drawn with probability proportional to `weights` (not negative, not all zero). */
  categorical(weights: readonly number[]): number {
    let left = this.uniform() * weights.reduce((sum, w) => sum + w, 0);
    for (let i = 0; i < weights.length; i++) {
      left -= weights[i]!;
      if (left < 0) return i;
    }
    return weights.findLastIndex((w) => w > 0);
  }

  /** Fisher-Yates, in place; returns the array. */
  shuffle<A extends { length: number; [i: number]: unknown }>(array: A): A {
    for (let i = array.length - 1; i > 0; i--) {
      const j = this.int(i + 1);
      const held = array[i];
      array[i] = array[j];
      array[j] = held;
    }
    return array;
  }
}

function fnv1a(text: string, basis: number): number {
  let hash = basis;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash;
}
