/**
 * Keeps the queue in step with the database: outbox rows go to the queue, what the queue lost is added again, jobs of
 * lost workers are taken back. Every step is safe to run in several servers at once: the database decides who does it.
 */
import { killPoint } from '@ntaa/config';
import type { QueuePayload } from '@ntaa/contracts';
import type { Database, OutboxEntry } from '@ntaa/db';
import type { Queue } from '@ntaa/queue';
import type { Meters } from './meters.js';
import { repeat, type LoopLog } from './repeat.js';

export interface DispatcherOptions {
  readonly db: Database;
  readonly queue: Queue;
  readonly log: LoopLog;
  readonly meters?: Pick<Meters, 'leasesLost' | 'requeued'>;
  /** Milliseconds between two looks; the outbox is also looked at when the database notifies. Defaults as given. */
  readonly every?: Readonly<Partial<Record<'outbox' | 'reap' | 'reconcile' | 'forget', number>>>;
}
/** Outbox rows moved in one transaction. */
const BATCH = 100;
/**
 * Between two looks at the outbox, at least: every submission wakes every server, and a look costs half a submission. The first
 * after a pause is not kept waiting.
 */
const REST_MS = 100;

export async function startDispatcher({
  db,
  queue,
  log,
  meters,
  every = {},
}: DispatcherOptions): Promise<{ close(): Promise<void> }> {
  const send = ({ name, payload, dedupe }: OutboxEntry) =>
    queue.add(name, payload as QueuePayload<typeof name>, { dedupe });
  const dispatch = async (entry: OutboxEntry): Promise<void> => {
    await send(entry);
    killPoint('api.outbox-sent');
  };
  const outbox = repeat(
    every.outbox ?? 1000,
    log,
    'outbox',
    async () => {
      while ((await db.outbox.dispatch(BATCH, dispatch)) === BATCH);
    },
    REST_MS,
  );
  const reaper = repeat(every.reap ?? 2000, log, 'reaper', async () => {
    const jobs = await db.jobs.reap();
    meters?.leasesLost.inc(jobs.length);
    if (jobs.length) log.warn({ jobs }, 'took jobs back from lost workers');
  });
  const reconciler = repeat(every.reconcile ?? 10_000, log, 'reconciler', async () => {
    for await (const entries of db.outbox.requeueCandidates()) {
      const [first] = entries;
      if (!first) continue;
      const there = await queue.present(first.name, entries.map(({ dedupe }) => dedupe)); // prettier-ignore
      for (const entry of entries.filter(({ dedupe }) => !there.has(dedupe))) {
        log.warn({ entry }, 'not in the queue; adding it again');
        meters?.requeued.inc({ name: entry.name });
        await send(entry);
      }
    }
  });
  const forgetter = repeat(every.forget ?? 600_000, log, 'forgetter', () => db.outbox.forget());
  const stop = await db.listen({ outbox: () => outbox.wake() });
  return {
    async close() {
      await stop();
      await Promise.all([outbox, reaper, reconciler, forgetter].map((loop) => loop.close()));
    },
  };
}
