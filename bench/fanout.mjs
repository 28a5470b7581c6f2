// One job on several workers. The service with its real servers and one or more workers of one thread each; how long does a
// search take, how long a race, and are the models equal?
// npm run bench -- fanout [--set emoji] [--workers 1,2] [--candidates 24] [--probes 240]     needs Postgres, Redis, an S3 server
// With --simulate 1000: so many workers that compute nothing and answer after --piece milliseconds, on real Postgres and Redis;
// what a piece costs coordinator, helper, queue and database, and how much of the workers' time is used.
// npm run bench -- fanout --simulate 1000 [--jobs 50] [--rounds 2] [--pieces 200] [--piece 2000,1000,500]
import { fork } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { NtaaClient } from '../packages/client/lib/index.js';
import { requireServers, startStack } from '../test/chaos/stack.mjs';
import { archiveOf } from './peers/datasets.mjs';

const { values } = parseArgs({
  options: {
    set: { type: 'string', default: 'emoji' },
    workers: { type: 'string', default: '1,2' },
    candidates: { type: 'string', default: '24' },
    probes: { type: 'string', default: '240' },
    simulate: { type: 'string' },
    jobs: { type: 'string', default: '50' },
    rounds: { type: 'string', default: '2' },
    pieces: { type: 'string', default: '200' },
    piece: { type: 'string', default: '2000,1000,500' },
  },
});
/** Places for helpers a process; each has eight connections to Postgres. */
const PLACES = 250;
const shape = () => ({
  jobs: Number(values.jobs),
  rounds: Number(values.rounds),
  pieces: Number(values.pieces),
});
requireServers();
const folder = mkdtempSync(join(tmpdir(), 'ntaa-fanout-'));
chmodSync(folder, 0o755);
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => process.exit(130));
const round = (value, digits = 1) => Number(value.toFixed(digits));
const numbers = (text) => text.split(',').map(Number);
const result = values.simulate ? await simulate(Number(values.simulate)) : await measure();
console.log(JSON.stringify({ bench: 'fanout', ...result }));
process.exit(0);

async function measure() {
  const archive = await archiveOf(values.set, folder);
  const rows = [];
  for (const workers of numbers(values.workers)) {
    const stack = await startStack(empty(String(workers)), { apis: 1, workers, worker: () => ({ NTAA_THREADS: '1' }) }); // prettier-ignore
    try {
      const client = new NtaaClient({ baseUrl: stack.urls[0], apiKey: stack.key });
      const { id } = await client.uploadDataset(archive, { name: values.set });
      const { id: dataset } = await client.datasetSettled(id);
      const common = { kind: 'adapt', task: 'classification', dataset, seed: 1, baseline: false };
      const kinds = {
        probes: { paradigm: 'linear-evaluation', budget: { max_candidates: Number(values.probes) } },
        joint: { budget: { max_candidates: Number(values.candidates) } },
      };
      for (const [kind, more] of Object.entries(kinds)) {
        if (!more.budget.max_candidates) continue;
        const { id: job } = await client.createJob({ ...common, ...more });
        let done = await client.job(job);
        for (; done.finished_at === null; await sleep(200)) done = await client.job(job);
        if (done.status !== 'succeeded') throw new Error(JSON.stringify(done.error));
        const { transfer, search, race, total } = done.result.seconds;
        const model = await client.model(done.result.model);
        const weights = model.files.find(({ path }) => path === 'model.safetensors').sha256.slice(0, 12);
        const seconds = Object.fromEntries(
          Object.entries({ transfer, search, race, total }).map(([name, s]) => [name, s && round(s)]),
        );
        rows.push({ kind, workers, ...seconds, weights });
        console.log(JSON.stringify(rows.at(-1)));
      }
    } finally {
      await stack.stop();
    }
  }
  for (const row of rows) {
    const first = rows.find(({ kind }) => kind === row.kind);
    row.search_speedup = round(first.search / row.search, 2);
    if (row.race) row.race_speedup = round(first.race / row.race, 2);
    row.same_bytes = row.weights === first.weights;
  }
  console.table(rows);
  return { set: values.set, rows };
}

async function simulate(workers) {
  const stack = await startStack(empty('simulated'), { apis: 1, workers: 0 });
  const rows = [];
  try {
    const env = {
      ...process.env,
      DATABASE_URL: stack.databaseUrl,
      REDIS_URL: `redis://127.0.0.1:${stack.redisPort}`,
    };
    for (const piece of numbers(values.piece)) {
      const sizes = Array.from({ length: Math.ceil(workers / PLACES) }, (_, i) =>
        Math.min(PLACES, workers - i * PLACES),
      );
      const helpers = await Promise.all(sizes.map((places, i) => peer({ role: 'helpers', name: `h${i}`, places, piece }, env))); // prettier-ignore
      const jobs = await peer({ role: 'coordinators', ...shape(), piece }, env);
      await sleep(1000);
      const pids = {
        postgres: [stack.parts.postgres.pid],
        redis: [stack.parts.redis.pid],
        api: stack.parts.api.map(({ pid }) => pid),
        helpers: helpers.map(({ child }) => child.pid),
        coordinators: [jobs.child.pid],
      };
      const before = cpu(pids);
      const told = await jobs.run();
      const after = cpu(pids);
      const helped = await Promise.all(helpers.map((helper) => helper.run()));
      for (const { child } of [...helpers, jobs]) child.kill();
      const { pieces, seconds } = told;
      const ms = Object.fromEntries(
        Object.keys(pids).map((name) => [
          `${name}_ms`,
          round((1000 * (after[name] - before[name])) / pieces, 2),
        ]),
      );
      rows.push({
        ...{ piece_ms: piece, pieces, seconds: round(seconds), pieces_per_second: round(pieces / seconds) },
        // Of those that there would be at most, with one for each job that works on its own.
        used: round((pieces * piece) / 1000 / seconds / (workers + shape().jobs), 3),
        by_helpers: round(helped.reduce((sum, { done }) => sum + done, 0) / pieces, 3),
        ...ms,
        cores: round(
          Object.values(after).reduce((a, b) => a + b) / seconds -
            Object.values(before).reduce((a, b) => a + b) / seconds,
          2,
        ),
        ...{ offer_p50: told.offer.p50, offer_p99: told.offer.p99, next_p50: told.next.p50, next_p99: told.next.p99 }, // prettier-ignore
        refused: helped.reduce((sum, { refused }) => sum + refused, 0),
      });
      console.log(JSON.stringify(rows.at(-1)));
    }
  } finally {
    await stack.stop();
  }
  console.table(rows);
  return { simulated: workers, ...shape(), rows };
}

function empty(name) {
  mkdirSync(join(folder, name));
  return join(folder, name);
}

/** A process of the simulation; `run()` resolves with what it tells at its end. */
async function peer(task, env) {
  const child = fork(fileURLToPath(new URL('./peers/fanout.mjs', import.meta.url)), [JSON.stringify(task)], { env }); // prettier-ignore
  process.on('exit', () => child.kill('SIGKILL'));
  const next = () =>
    new Promise((done, fail) => {
      child.once('message', done);
      child.once('exit', (code) => fail(new Error(`${task.role} ended with ${code}`)));
    });
  await next();
  return {
    child,
    run() {
      const told = next();
      child.send('go');
      return told;
    },
  };
}

/** Processor seconds of processes and their children, so far. */
function cpu(pids) {
  const stat = (pid) => readFileSync(`/proc/${pid}/stat`, 'utf8').split(')').at(-1).trim().split(' ');
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const childrenOf = (parent) =>
    all.filter((pid) => {
      try {
        return Number(stat(pid)[1]) === parent;
      } catch {
        return false;
      }
    });
  const of = (pid) => {
    const [user, system, ...reaped] = stat(pid).slice(11, 15).map(Number);
    const own = (user + system + reaped.reduce((a, b) => a + b, 0)) / 100;
    return childrenOf(pid).reduce((sum, child) => sum + of(Number(child)), own);
  };
  return Object.fromEntries(
    Object.entries(pids).map(([name, list]) => [name, list.reduce((sum, pid) => sum + of(pid), 0)]),
  );
}
