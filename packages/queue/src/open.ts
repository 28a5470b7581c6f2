import { QUEUE_JOBS, type QueueJobName, type QueuePayload } from '@ntaa/contracts';
import { postgresBackend, redisBackend, type Backend, type BullQueue, type BullWorker } from './backends.js';
import { CATALOGUE } from './catalogue.js';
import type { Closable, Handler, Intake, Queue, QueueCounts, QueueOptions } from './queue.js';

const NAMES = Object.keys(QUEUE_JOBS) as QueueJobName[];
/** A queue job whose worker has not renewed its lock for so long is given to another, milliseconds. */
const LOCK_MS = 30_000;

/** Connects to the configured backend and waits until it is ready. The caller closes what it opens. */
export async function openQueue(options: QueueOptions): Promise<Queue> {
  const onError = options.onError ?? (() => undefined);
  const backend = options.redisUrl
    ? redisBackend(options.redisUrl, onError)
    : postgresBackend(options.databaseUrl, onError);
  const queues = new Map<QueueJobName, BullQueue>();
  try {
    await backend.ping();
    for (const name of NAMES) {
      const queue = backend.queue(name);
      queues.set(name, queue);
      queue.on('error', onError);
      await queue.waitUntilReady();
    }
  } catch (error) {
    await Promise.allSettled([...queues.values()].map((queue) => queue.close()));
    await backend.close();
    const variable = backend.kind === 'redis' ? 'REDIS_URL' : 'DATABASE_URL';
    const why = (error as Error).message;
    throw new Error(`The queue on ${backend.kind} cannot be used: ${why}. Check ${variable}.`, {
      cause: error,
    });
  }
  return bind(backend, queues, onError);
}

function bind(
  backend: Backend,
  queues: ReadonlyMap<QueueJobName, BullQueue>,
  onError: (error: Error) => void,
): Queue {
  const workers = new Map<QueueJobName, Closable>();
  const queueOf = (name: QueueJobName): BullQueue => queues.get(name)!;
  return {
    backend: backend.kind,
    async add(name, payload, { dedupe }) {
      const { attempts, backoffMs } = CATALOGUE[name];
      await queueOf(name).add(name, payload, {
        jobId: dedupe,
        attempts,
        backoff: { type: 'exponential', delay: backoffMs },
        // What is there is unfinished: see Backend.present.
        removeOnComplete: true,
        removeOnFail: true,
      });
    },
    async work(name, concurrency, handler) {
      if (workers.has(name)) throw new Error(`There is a handler for ${name} in this process already`);
      const worker = startWorker(backend, name, concurrency, handler, onError);
      workers.set(name, worker);
      await worker.ready;
      return worker;
    },
    present: (name, ids) => backend.present(queueOf(name), ids),
    async counts() {
      const entries = NAMES.map(async (name): Promise<[QueueJobName, QueueCounts]> => {
        const counts = await queueOf(name).getJobCounts('waiting', 'active', 'delayed');
        const { waiting = 0, active = 0, delayed = 0 } = counts;
        return [name, { waiting, active, delayed }];
      });
      return Object.fromEntries(await Promise.all(entries)) as Record<QueueJobName, QueueCounts>;
    },
    ping: () => backend.ping(),
    async obliterate() {
      for (const queue of queues.values()) await queue.obliterate({ force: true });
    },
    async close() {
      await Promise.all([...workers.values()].map((worker) => worker.close()));
      await Promise.all([...queues.values()].map((queue) => queue.close()));
      await backend.close();
    },
  };
}

function startWorker<N extends QueueJobName>(
  backend: Backend,
  name: N,
  concurrency: number,
  handler: Handler<N>,
  onError: (error: Error) => void,
): Intake & { ready: Promise<unknown> } {
  const rule = CATALOGUE[name];
  const closing = new AbortController();
  // BullMQ hands its signal only to processors with three parameters.
  const process = async (job: { data: unknown }, _token?: string, signal?: AbortSignal): Promise<void> => {
    const timeout = rule.timeoutMs === null ? null : AbortSignal.timeout(rule.timeoutMs);
    const signals = [closing.signal, signal, timeout].filter((s) => s != null);
    await handler(job.data as QueuePayload<N>, AbortSignal.any(signals));
    if (timeout?.aborted) throw new Error(`${name} took longer than ${rule.timeoutMs} ms`);
  };
  const worker: BullWorker = backend.worker(name, process, {
    concurrency,
    lockDuration: LOCK_MS,
    maxStalledCount: rule.attempts,
  });
  worker.on('error', onError);
  let closed: Promise<void> | null = null;
  return {
    ready: worker.waitUntilReady(),
    pause: () => worker.pause(true),
    resume: () => worker.resume(),
    close() {
      closing.abort();
      closed ??= worker.close();
      return closed;
    },
  };
}
