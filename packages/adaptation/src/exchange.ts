/**
 * Where the threads of one training meet. A batch is cut into shards; every thread computes the gradients of its own,
 * puts them here, waits for the others, and applies the same weighted sum, so that all replicas stay equal to the bit.
 * How a batch is cut does not depend on how many threads there are: one thread alone gives the same bytes.
 */
import type { Genotype } from '@ntaa/contracts';
import type { Replica } from './replica.js';

/** How long a thread waits for another, ms: far beyond any step, for a thread that is gone. */
const PATIENCE = 300_000;
/** It is waited for in turns: a process that was stopped, or a laptop that slept, loses one of them and not all. */
const TURN = 5000;
const FAILED = -1;

export interface Exchanged {
  buffer: SharedArrayBuffer;
  threads: number;
  shards: number;
  /** Values of all gradients together. */
  size: number;
}

export interface Step {
  /** Steps this exchange has seen, from 1. */
  serial: number;
  /** Of the schedule: which batch. */
  step: number;
  genotypes: readonly Genotype[];
  /** Learning rate; null: a rehearsal that changes nothing. */
  rate: number | null;
  /** See Replica.backward. */
  mixing: number;
}

/** A new exchange for `threads` threads over networks with `size` values of gradients. */
export function newExchange(threads: number, shards: number, size: number): Exchanged {
  const bytes = 64 + 4 * threads + 2 * shards * (8 + 4 * size);
  return { buffer: new SharedArrayBuffer(Math.ceil(bytes / 8) * 8), threads, shards, size };
}

export class Exchange {
  readonly #shared: Exchanged;
  /** The last step each thread has put its gradients for. */
  readonly #arrived: Int32Array;
  readonly #losses: Float64Array;
  readonly #gradients: Float32Array;
  readonly #sum: Float32Array;

  constructor(shared: Exchanged) {
    const { buffer, threads, shards, size } = shared;
    this.#shared = shared;
    this.#losses = new Float64Array(buffer, 0, 2 * shards);
    this.#arrived = new Int32Array(buffer, 16 * shards, threads);
    this.#gradients = new Float32Array(buffer, 16 * shards + 4 * threads, 2 * shards * size);
    this.#sum = new Float32Array(size);
  }

  /** Does thread `member`'s part of a step, and the step's update of its replica. Returns the mean loss of the batch. */
  takePart(member: number, replica: Replica, { serial, step, genotypes, rate, mixing }: Step): number {
    const { threads, shards, size } = this.#shared;
    const { batchSize } = replica.batches;
    if (shards === 1) {
      // Nobody to share with: gradients stay where they are, which may be a GPU.
      const loss = replica.backward(step, genotypes, 0, batchSize, mixing);
      if (rate !== null) replica.update(rate);
      return loss;
    }
    const bound = (shard: number): number => Math.round((shard * batchSize) / shards);
    // Two places for each shard: a thread may be a step ahead of one that still reads.
    const place = (shard: number): number => (serial & 1) * shards + shard;
    const gradientsOf = (shard: number): Float32Array =>
      this.#gradients.subarray(place(shard) * size, (place(shard) + 1) * size);
    for (let shard = member; shard < shards; shard += threads) {
      const [from, to] = [bound(shard), bound(shard + 1)];
      this.#losses[place(shard)] = replica.backward(step, genotypes, from, to, mixing);
      replica.gradients.copyTo(gradientsOf(shard));
    }
    this.#arrive(member, serial);
    for (let other = 0; other < threads; other++) this.#await(other, serial);
    let loss = 0;
    this.#sum.fill(0);
    for (let shard = 0; shard < shards; shard++) {
      const share = (bound(shard + 1) - bound(shard)) / batchSize;
      loss += share * this.#losses[place(shard)]!;
      const values = gradientsOf(shard);
      for (let i = 0; i < size; i++) this.#sum[i]! += share * values[i]!;
    }
    if (rate !== null) {
      replica.gradients.assign(this.#sum);
      replica.update(rate);
    }
    return loss;
  }

  /** Tells the others that this thread will not come. */
  fail(member: number): void {
    this.#arrive(member, FAILED);
  }

  #arrive(member: number, serial: number): void {
    Atomics.store(this.#arrived, member, serial);
    Atomics.notify(this.#arrived, member);
  }

  #await(member: number, serial: number): void {
    for (let turns = 0; ;) {
      const at = Atomics.load(this.#arrived, member);
      if (at >= serial) return;
      if (at === FAILED) throw new Error('a training thread failed');
      if (Atomics.wait(this.#arrived, member, at, TURN) === 'timed-out' && ++turns * TURN >= PATIENCE)
        throw new Error(`a training thread did not answer for ${PATIENCE / 1000} s`);
    }
  }
}
