/** Where BullMQ keeps its queues. Each backend owns the connections it opens. */
import {
  createPostgresBackend,
  Queue as RedisQueue,
  withBackend,
  Worker as RedisWorker,
  type Processor,
  type WorkerOptions,
} from 'bullmq';
import { Redis } from 'ioredis';
import pg from 'pg';

export type BullQueue = RedisQueue<unknown, void>;
export type BullWorker = RedisWorker<unknown, void>;
type Rules = Pick<WorkerOptions, 'concurrency' | 'maxStalledCount' | 'lockDuration'>;

export interface Backend {
  readonly kind: 'redis' | 'postgres';
  queue(name: string): BullQueue;
  worker(name: string, processor: Processor<unknown, void>, rules: Rules): BullWorker;
  /** Those of the ids whose jobs are there: queue jobs are removed when they have ended. */
  present(queue: BullQueue, ids: readonly string[]): Promise<ReadonlySet<string>>;
  ping(): Promise<void>;
  /** After its queues and workers have been closed. */
  close(): Promise<void>;
}

export function redisBackend(url: string, onError: (error: Error) => void): Backend {
  const prefix = 'ntaa';
  // Adding must fail while Redis is away (the outbox keeps the entry); a worker waits for it to come back.
  const producer = new Redis(url, { maxRetriesPerRequest: 2, connectTimeout: 5000 });
  const consumer = new Redis(url, { maxRetriesPerRequest: null, lazyConnect: true });
  for (const connection of [producer, consumer]) connection.on('error', onError);
  return {
    kind: 'redis',
    queue: (name) => new RedisQueue(name, { connection: producer, prefix }),
    worker: (name, processor, rules) =>
      new RedisWorker(name, processor, { connection: consumer, prefix, ...rules }),
    // Not by state, as BullMQ tells it: that searches the list of all that wait, for each.
    async present(queue, ids) {
      const pipeline = producer.pipeline();
      for (const id of ids) pipeline.exists(queue.toKey(id));
      const answers = (await pipeline.exec()) ?? [];
      const failed = answers.find(([error]) => error)?.[0];
      if (failed) throw failed;
      return new Set(ids.filter((_, i) => answers[i]?.[1] === 1));
    },
    async ping() {
      await producer.ping();
    },
    close() {
      producer.disconnect();
      consumer.disconnect();
      return Promise.resolve();
    },
  };
}

export function postgresBackend(url: string, onError: (error: Error) => void): Backend {
  const { Queue, Worker } = withBackend(createPostgresBackend);
  // Its tables are in a schema of their own. Listening connections come on top of the pool.
  const connection = { connectionString: url, schema: 'bullmq', max: 2, migrate: true };
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  pool.on('error', onError);
  // The same class with another backend behind it.
  return {
    kind: 'postgres',
    queue: (name) => new Queue(name, { connection }) as unknown as BullQueue,
    worker: (name, processor, rules) =>
      new Worker(name, processor as never, { connection, ...rules }) as unknown as BullWorker,
    async present(queue, ids) {
      const states = await Promise.all(ids.map((id) => queue.getJobState(id)));
      return new Set(ids.filter((_, i) => states[i] !== 'unknown'));
    },
    async ping() {
      await pool.query('SELECT 1');
    },
    close: () => pool.end(),
  };
}
