/** One suite over both backends, each on a real server that the test starts. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startStack } from '../../../test/setup/stack.js';
import { openQueue, type Queue, type QueueOptions } from './index.js';

interface Started {
  options: QueueOptions;
  stop(): Promise<void>;
}
const given = process.env['NTAA_TEST_REDIS_URL'];
const installed = spawnSync('redis-server', ['--version']).status === 0;
if (!given && !installed)
  console.log('Not tested on Redis: install redis-server, or set NTAA_TEST_REDIS_URL to an empty one.');
const kinds = ['postgres', ...(given || installed ? (['redis'] as const) : [])] as const;

async function startPostgres(): Promise<Started> {
  const stack = await startStack();
  return { options: { databaseUrl: stack.databaseUrl }, stop: () => stack.close() };
}

function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => done(port));
    });
  });
}

async function startRedis(): Promise<Started> {
  if (given) return { options: { databaseUrl: '', redisUrl: given }, stop: () => Promise.resolve() };
  const folder = mkdtempSync(join(tmpdir(), 'ntaa-redis-'));
  const port = await freePort();
  const flags = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', folder];
  const server = spawn('redis-server', flags, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = new Promise<void>((done) => server.once('exit', () => done()));
  await new Promise<void>((done, fail) => {
    server.stdout.on('data', (text: Buffer) => String(text).includes('Ready to accept') && done());
    void exited.then(() => fail(new Error('redis-server did not start')));
  });
  return {
    options: { databaseUrl: '', redisUrl: `redis://127.0.0.1:${port}` },
    async stop() {
      server.kill();
      await exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Resolves by hand. */
function gate<T = void>() {
  let open!: (value: T) => void;
  const passed = new Promise<T>((resolve) => (open = resolve));
  return { open, passed };
}

describe.each(kinds)('the queue on %s', (kind) => {
  let started: Started;
  let queue: Queue;
  beforeAll(async () => {
    started = kind === 'redis' ? await startRedis() : await startPostgres();
  });
  afterAll(() => started?.stop());
  beforeEach(async () => {
    queue = await openQueue(started.options);
    await queue.obliterate();
  });
  afterEach(() => queue.close());
  const add = (id: string) => queue.add('job.run', { job_id: id }, { dedupe: `${id}-1` });

  test('delivers what was added before and after the worker came', async () => {
    expect(queue.backend).toBe(kind);
    await add('before');
    const got: string[] = [];
    const both = gate();
    await queue.work('job.run', 2, async ({ job_id }) => {
      if (got.push(job_id) === 2) both.open();
    });
    await add('after');
    await both.passed;
    expect(got.sort()).toEqual(['after', 'before']);
  });

  test('an id that waits or is worked on is not added again; a finished one is', async () => {
    await add('a');
    await add('a');
    expect((await queue.counts())['job.run']).toEqual({ waiting: 1, active: 0, delayed: 0 });
    expect(await queue.present('job.run', ['b-1', 'a-1', 'c-1'])).toEqual(new Set(['a-1']));
    let runs = 0;
    const [running, finish, again] = [gate(), gate(), gate()];
    await queue.work('job.run', 1, async () => {
      if (++runs === 2) return again.open();
      running.open();
      await finish.passed;
    });
    await running.passed;
    await add('a');
    expect((await queue.counts())['job.run']).toEqual({ waiting: 0, active: 1, delayed: 0 });
    expect(await queue.present('job.run', ['a-1'])).toEqual(new Set(['a-1']));
    finish.open();
    // Until the queue has forgotten it, adding it does nothing: what the reconciler is for.
    while ((await queue.present('job.run', ['a-1'])).size > 0);
    expect(runs).toBe(1);
    await add('a');
    await again.passed;
    expect(runs).toBe(2);
  });

  test('a failed run is tried again, by the rule of the catalogue', async () => {
    const times: number[] = [];
    const second = gate();
    await queue.work('dataset.validate', 1, ({ dataset_id }) => {
      expect(dataset_id).toBe('ds');
      if (times.push(Date.now()) === 2) second.open();
      else throw new Error('connection lost');
      return Promise.resolve();
    });
    await queue.add('dataset.validate', { dataset_id: 'ds' }, { dedupe: 'ds' });
    await second.passed;
    expect(times[1]! - times[0]!).toBeGreaterThan(1500);
  });

  test('a paused intake leaves what comes to others, and takes it when it goes on', async () => {
    const got: string[] = [];
    const [first, second] = [gate(), gate()];
    const intake = await queue.work('job.run', 1, async ({ job_id }) => {
      got.push(job_id);
      (got.length === 1 ? first : second).open();
    });
    await intake.pause();
    await add('a');
    // One may have been on its way; the next one is not.
    await Promise.race([first.passed, sleep(1500)]);
    const before = got.length;
    await add('b');
    await sleep(1500);
    expect(got).toHaveLength(before);
    await intake.resume();
    await second.passed;
    expect(got).toEqual(['a', 'b']);
  });

  test('close aborts the signal and waits for the handlers', async () => {
    const running = gate();
    let ended = false;
    const worker = await queue.work('job.run', 1, async (_, signal) => {
      running.open();
      await new Promise<void>((done) => signal.addEventListener('abort', () => done()));
      ended = true;
    });
    await add('long');
    await running.passed;
    await worker.close();
    expect(ended).toBe(true);
  });

  test('a second handler of a job is an error', async () => {
    await queue.work('job.run', 1, () => Promise.resolve());
    await expect(queue.work('job.run', 1, () => Promise.resolve())).rejects.toThrow(/job\.run/);
  });

  test('of two services, one gets the job', async () => {
    const other = await openQueue(started.options);
    try {
      const got: string[] = [];
      const all = gate();
      const take = (who: string) => (payload: { job_id: string }) => {
        if (got.push(`${payload.job_id} ${who}`) === 20) all.open();
        return Promise.resolve();
      };
      await Promise.all([queue.work('job.run', 2, take('one')), other.work('job.run', 2, take('two'))]);
      await Promise.all(Array.from({ length: 20 }, (_, i) => add(`j${i}`)));
      await all.passed;
      expect(new Set(got.map((text) => text.split(' ')[0])).size).toBe(20);
    } finally {
      await other.close();
    }
  });
});

test('an unusable backend is an error that names the variable', async () => {
  await expect(openQueue({ databaseUrl: 'postgres://u:p@127.0.0.1:1/x' })).rejects.toThrow(/DATABASE_URL/);
  await expect(openQueue({ databaseUrl: '', redisUrl: 'redis://127.0.0.1:1' })).rejects.toThrow(/REDIS_URL/);
});
