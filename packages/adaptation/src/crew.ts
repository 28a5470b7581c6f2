/**
 * The threads that train and judge one job's networks together. The calling thread is one of them; the others are
 * workers with an engine of their own. Nothing that is computed depends on how many there are.
 */
import { availableParallelism } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { MessageChannel, receiveMessageOnPort, Worker, type MessagePort } from 'node:worker_threads';
import type { Genotype } from '@ntaa/contracts';
import { initEngine } from '@ntaa/engine';
import { cost } from '@ntaa/nas';
import type { NamedTensors, Supernet } from '@ntaa/supernet';
import type { Task } from '@ntaa/tasks';
import type { FromThread, Subject, ToThread, Training } from './crew-messages.js';
import { evaluateCandidate, type Evaluation, type Exam } from './evaluate.js';
import { Exchange, newExchange } from './exchange.js';
import { Replica, type Hyperparameters } from './replica.js';
import { handleOf, TrainingBatches, type TargetData } from './target-data.js';

/**
 * Parts that a batch is cut into on the embedded engine, whose threads take one each. Fixed, because batch norm sees
 * the images of one part: were it the number of cores, the same job would give other weights on another machine.
 */
const SHARDS = 2;
/** Batch norm wants some images to estimate from. */
const LEAST_SHARD = 8;

/** What a training needs besides the network. */
export interface TrainingSetup {
  data: TargetData;
  task: Task;
  indices: readonly number[];
  batchSize: number;
  /** Path of the random numbers of its batches. */
  path: readonly (string | number)[];
  hyperparameters: Hyperparameters;
  momentum?: NamedTensors | undefined;
}

export interface Judgement {
  net: Supernet;
  genotypes: readonly Genotype[];
  data: TargetData;
  task: Task;
  exam: Exam;
  /** Called between evaluations; true ends them. */
  breathe(): Promise<boolean>;
  /** Told every result as it comes. */
  judged(genotype: Genotype, evaluation: Evaluation): void;
}

export class Crew {
  readonly #helpers: Helper[];
  readonly #embedded: boolean;

  private constructor(helpers: Helper[], embedded: boolean) {
    this.#helpers = helpers;
    this.#embedded = embedded;
  }

  /** That share what there is to judge, the calling one included. */
  get threads(): number {
    return this.#helpers.length + 1;
  }

  /** `threads`: the calling one included; by default as many as have work and a core. Native engines bring their own. */
  static async start(threads = Math.min(SHARDS, availableParallelism())): Promise<Crew> {
    const embedded = (await initEngine()).kind === 'wasm';
    return new Crew(embedded ? Array.from({ length: threads - 1 }, () => new Helper()) : [], embedded);
  }

  /** Begins to train a network, which stays the caller's. One training at a time. */
  async train(net: Supernet, setup: TrainingSetup): Promise<SharedTraining> {
    const { data, task, indices, path, hyperparameters, momentum } = setup;
    const batches = new TrainingBatches(data, indices, setup.batchSize, path, task);
    const replica = new Replica(net, task, batches, hyperparameters);
    if (momentum) replica.loadMomentum(momentum);
    const shards = this.#embedded && batches.batchSize >= SHARDS * LEAST_SHARD ? SHARDS : 1;
    const helpers = this.#helpers.slice(0, shards - 1);
    const exchanged = newExchange(helpers.length + 1, shards, replica.gradients.size);
    const subject = this.#subject(net, data, task);
    await Promise.all(
      helpers.map((helper, i) =>
        helper.train({
          subject,
          momentum: momentum ?? null,
          batches: { indices, batchSize: setup.batchSize, path },
          hyperparameters,
          exchanged,
          member: i + 1,
        }),
      ),
    );
    return new SharedTraining(replica, new Exchange(exchanged), helpers);
  }

  /** Evaluates architectures with a network's weights as they are. Null for those that were not reached. */
  async judge(judgement: Judgement): Promise<(Evaluation | null)[]> {
    const { net, genotypes, data, task, exam, breathe, judged } = judgement;
    const results: (Evaluation | null)[] = genotypes.map(() => null);
    const put = (index: number, evaluation: Evaluation): void => {
      results[index] = evaluation;
      judged(genotypes[index]!, evaluation);
    };
    const [own = [], ...others] = share(genotypes, net, this.#helpers.length + 1);
    const abandon = new SharedArrayBuffer(4);
    const subject = this.#subject(net, data, task);
    const theirs = others.map((indices, i) => {
      const given = indices.map((index) => genotypes[index]!);
      return this.#helpers[i]!.judge({ subject, genotypes: given, exam, abandon }, (at, evaluation) =>
        put(indices[at]!, evaluation),
      );
    });
    let going = true;
    const all = Promise.all(theirs).finally(() => (going = false));
    all.catch(() => undefined); // it is awaited below, but maybe later than it fails
    const stop = (): number => Atomics.store(new Int32Array(abandon), 0, 1);
    try {
      for (const index of own) {
        if (await breathe()) break;
        put(index, evaluateCandidate(net, genotypes[index]!, data, task, exam));
      }
      while (going) {
        if (await breathe()) stop();
        await Promise.race([all, setTimeout(50)]);
      }
    } catch (error) {
      stop();
      await all.catch(() => undefined);
      throw error;
    }
    await all;
    return results;
  }

  async close(): Promise<void> {
    await Promise.all(this.#helpers.map((helper) => helper.close()));
  }

  #subject(net: Supernet, data: TargetData, task: Task): Subject {
    // Without helpers nobody reads it.
    const tensors: NamedTensors = this.#helpers.length > 0 ? net.tensors() : new Map();
    return { space: net.space, outputs: net.outputs, task: task.name, tensors, data: handleOf(data) };
  }
}

/** A training under way on the calling thread and on helpers, whose replicas stay equal to the caller's network. */
export class SharedTraining {
  readonly replica: Replica;
  readonly #exchange: Exchange;
  readonly #helpers: readonly Helper[];
  #serial = 0;

  constructor(replica: Replica, exchange: Exchange, helpers: readonly Helper[]) {
    this.replica = replica;
    this.#exchange = exchange;
    this.#helpers = helpers;
  }

  /** One step at a learning rate; with null all its work but the update. Returns the loss of the first genotype. */
  step(step: number, genotypes: readonly Genotype[], rate: number | null, mixing = 0): number {
    this.#serial += 1;
    const work = { serial: this.#serial, step, genotypes, rate, mixing };
    for (const helper of this.#helpers) helper.send({ type: 'step', step: work });
    try {
      return this.#exchange.takePart(0, this.replica, work);
    } catch (error) {
      const reason = this.#helpers.map((helper) => helper.complaint()).find((text) => text !== undefined);
      throw reason === undefined ? error : new Error(`a training thread failed: ${reason}`);
    }
  }

  /** See Replica. */
  settle(statistics: NamedTensors): void {
    for (const helper of this.#helpers) helper.send({ type: 'settle', statistics });
    this.replica.settle(statistics);
  }

  dispose(): void {
    for (const helper of this.#helpers) helper.send({ type: 'end-training' });
    this.replica.dispose();
  }
}

/** A worker thread, as the main thread sees it. */
class Helper {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #gone: Promise<never>;

  constructor() {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    // Of lib/ even when this is src/: threads do not run TypeScript.
    this.#worker = new Worker(new URL('../lib/crew-thread.js', import.meta.url), {
      workerData: { port: port2 },
      execArgv: [],
      transferList: [port2],
    });
    this.#gone = new Promise((_, reject) => {
      this.#worker.once('error', reject);
      this.#worker.once('exit', (code) => reject(new Error(`a training thread ended (exit code ${code})`)));
    });
    this.#gone.catch(() => undefined);
    port1.unref();
  }

  send(message: ToThread): void {
    this.#port.postMessage(message);
  }

  async train(training: Training): Promise<void> {
    this.send({ type: 'train', training });
    await this.#until((message) => message.type === 'training');
  }

  async judge(
    judging: Extract<ToThread, { type: 'judge' }>['judging'],
    judged: (index: number, evaluation: Evaluation) => void,
  ): Promise<void> {
    this.send({ type: 'judge', judging });
    await this.#until((message) => {
      if (message.type === 'judged') judged(message.index, message.evaluation);
      return message.type === 'all-judged';
    });
  }

  /** What a failed thread said, read without waiting. */
  complaint(): string | undefined {
    const received = receiveMessageOnPort(this.#port) as { message: FromThread } | undefined;
    return received?.message.type === 'failed' ? received.message.message : undefined;
  }

  async close(): Promise<void> {
    this.#port.close();
    await this.#worker.terminate();
  }

  /** Reads messages until one is the last; fails with the thread. */
  async #until(last: (message: FromThread) => boolean): Promise<void> {
    let listener: ((message: FromThread) => void) | undefined;
    const answered = new Promise<void>((resolve, reject) => {
      listener = (message) => {
        if (message.type === 'failed') reject(new Error(`a training thread failed: ${message.message}`));
        else if (last(message)) resolve();
      };
      this.#port.on('message', listener);
    });
    try {
      await Promise.race([answered, this.#gone]);
    } finally {
      this.#port.off('message', listener!);
    }
  }
}

/** Indices of the genotypes for each of `threads`, by cost: the dearest first, always to the one with least to do. */
function share(genotypes: readonly Genotype[], net: Supernet, threads: number): number[][] {
  const costs = genotypes.map((genotype) => cost(net.space, genotype, net.outputs).macs);
  const shares = Array.from({ length: threads }, () => ({ load: 0, indices: [] as number[] }));
  const dearestFirst = genotypes.map((_, i) => i).sort((a, b) => costs[b]! - costs[a]! || a - b);
  for (const index of dearestFirst) {
    const least = shares.reduce((a, b) => (b.load < a.load ? b : a));
    least.load += costs[index]!;
    least.indices.push(index);
  }
  return shares.map(({ indices }) => indices);
}
