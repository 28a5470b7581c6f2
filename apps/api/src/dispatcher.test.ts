import { afterAll, beforeAll, expect, test } from 'vitest';
import { adaptRequest, readyDataset, startApi, type ApiStack } from '../../../test/setup/api.js';
import { startDispatcher } from './dispatcher.js';

let api: ApiStack;
beforeAll(async () => {
  api = await startApi();
});
afterAll(() => api?.close());

const log = { info: () => undefined, warn: () => undefined };
const create = async () => {
  const job = await api.db.jobs.create('default', adaptRequest(await readyDataset(api)));
  if (typeof job === 'string') throw new Error(job);
  return job.id;
};

test('two dispatchers bring a new job to the queue at once, and it runs once', async () => {
  const slow = { outbox: 60_000, reap: 60_000, reconcile: 60_000 };
  const both = await Promise.all(
    [1, 2].map(() => startDispatcher({ db: api.db, queue: api.queue, log, every: slow })),
  );
  const ran: string[] = [];
  const work = await api.queue.work('job.run', 2, async ({ job_id }) => void ran.push(job_id));
  try {
    // Nobody looks on a timer: the database's notification brings it.
    const ids = await Promise.all([create(), create(), create()]);
    await expect.poll(() => [...ran].sort(), { timeout: 10_000 }).toEqual([...ids].sort());
  } finally {
    await work.close();
    await Promise.all(both.map((d) => d.close()));
  }
});

test('what the queue forgot is added again', async () => {
  const waiting = async () => (await api.queue.counts())['job.run'].waiting;
  await create();
  const dispatcher = await startDispatcher({
    db: api.db,
    queue: api.queue,
    log,
    every: { outbox: 100, reap: 60_000, reconcile: 2000 },
  });
  try {
    await expect.poll(waiting, { timeout: 10_000 }).toBeGreaterThan(0);
    await api.queue.obliterate();
    expect(await waiting()).toBe(0);
    await expect.poll(waiting, { timeout: 30_000 }).toBeGreaterThan(0);
  } finally {
    await dispatcher.close();
  }
});

test('a job whose worker was lost is taken back', async () => {
  const id = await create();
  await api.db.jobs.claim(id, 'lost', 1);
  const dispatcher = await startDispatcher({ db: api.db, queue: api.queue, log, every: { reap: 50 } });
  try {
    await expect
      .poll(async () => (await api.db.jobs.get('default', id))?.status, { timeout: 10_000 })
      .toBe('queued');
  } finally {
    await dispatcher.close();
  }
});
