// One job on several workers. The service with its real servers and one or more workers of one thread each; how long does a
// search take, and are the models equal?
// npm run bench -- fanout [--set emoji] [--workers 1,2] [--candidates 24] [--probes 240]     needs Postgres, Redis, an S3 server
// With --workers 1,2,1,2 each number is run twice, in turns, and medians are compared.
// With --ceiling 1,2,1,2: what the machine itself allows. The same search in so many processes at once that know nothing of each
// other, without any service: two that are each as fast as one alone would be the ideal of two workers.
// npm run bench -- fanout --ceiling 1,2,1,2 [--set emoji] [--probes 240]
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
import { archiveOf, dataset, packs } from './peers/datasets.mjs';

const { values } = parseArgs({
  options: {
    set: { type: 'string', default: 'emoji' },
    workers: { type: 'string', default: '1,2' },
    candidates: { type: 'string', default: '24' },
    probes: { type: 'string', default: '240' },
    ceiling: { type: 'string' },
    simulate: { type: 'string' },
    jobs: { type: 'string', default: '50' },
    rounds: { type: 'string', default: '2' },
    pieces: { type: 'string', default: '200' },
    piece: { type: 'string', default: '2000,1000,500' },
  },
});
/** Places for helpers a process; each has eight connections to Postgres. */
const PLACES = 250;
const SIMULATED = new URL('./peers/fanout.mjs', import.meta.url);
const SEARCH = new URL('./peers/search.mjs', import.meta.url);
const shape = () => ({
  jobs: Number(values.jobs),
  rounds: Number(values.rounds),
  pieces: Number(values.pieces),
});
if (!values.ceiling) requireServers();
const folder = mkdtempSync(join(tmpdir(), 'ntaa-fanout-'));
chmodSync(folder, 0o755);
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => process.exit(130));
const round = (value, digits = 1) => Number(value.toFixed(digits));
const numbers = (text) => text.split(',').map(Number);
const median = (list) => {
  const sorted = list.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
};
const result = values.simulate
  ? await simulate(Number(values.simulate))
  : await (values.ceiling ? ceiling() : measure());
console.log(JSON.stringify({ bench: 'fanout', ...result }));
process.exit(0);

async function measure() {
  const archive = await archiveOf(values.set, folder);
  const rows = [];
  let runs = 0;
  for (const workers of numbers(values.workers)) {
    const stack = await startStack(empty(`${++runs}`), { apis: 1, workers, worker: () => ({ NTAA_THREADS: '1' }) }); // prettier-ignore
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
        let [before, after] = [null, null];
        // Watched as users watch it: who asks again and again takes processor time from the trainers.
        for await (const { type, data } of client.events(job)) {
          if (type !== 'stage') continue;
          if (data.stage === 'search') before ??= partsCpu(stack);
          else if (before) after ??= partsCpu(stack);
        }
        const done = await client.job(job);
        if (done.status !== 'succeeded') throw new Error(JSON.stringify(done.error));
        const { transfer, search, total } = done.result.seconds;
        const model = await client.model(done.result.model);
        const weights = model.files.find(({ path }) => path === 'model.safetensors').sha256.slice(0, 12);
        const seconds = Object.fromEntries(
          Object.entries({ transfer, search, total }).map(([name, s]) => [name, s && round(s)]),
        );
        // Processor seconds of the search, by who used them.
        const used = Object.entries(after).map(([name, s]) => [`${name}_cpu`, round(s - before[name])]);
        rows.push({ kind, workers, ...seconds, weights, ...Object.fromEntries(used) });
        console.log(JSON.stringify(rows.at(-1)));
      }
    } finally {
      await stack.stop();
    }
  }
  for (const row of rows) row.same_bytes = row.weights === rows.find(({ kind }) => kind === row.kind).weights;
  console.table(rows);
  const medians = [];
  for (const { kind, workers } of rows) {
    if (medians.some((one) => one.kind === kind && one.workers === workers)) continue;
    const like = rows.filter((row) => row.kind === kind && row.workers === workers);
    const search = median(like.map((row) => row.search));
    const first = medians.find((one) => one.kind === kind)?.search ?? search;
    const speedup = round(first / search, 2);
    medians.push({ kind, workers, runs: like.length, search: round(search), speedup });
  }
  console.table(medians);
  return { set: values.set, rows, medians };
}

async function ceiling() {
  const { folder: from, index } = await dataset(values.set, folder);
  const task = { folder: from, scratch: folder, packed: [...(await packs(from, index))], probes: Number(values.probes) }; // prettier-ignore
  const rows = [];
  for (const processes of numbers(values.ceiling)) {
    const peers = await Promise.all(Array.from({ length: processes }, () => peer(SEARCH, task)));
    const told = await Promise.all(peers.map((one) => one.run()));
    for (const { child } of peers) child.kill();
    rows.push({ processes, seconds: told.map(({ search }) => round(search)) });
    console.log(JSON.stringify(rows.at(-1)));
  }
  const of = (processes) => median(rows.filter((row) => row.processes === processes).flatMap(({ seconds }) => seconds)); // prettier-ignore
  const medians = [...new Set(rows.map(({ processes }) => processes))].map((processes) => ({
    ...{ processes, search: round(of(processes)) },
    speedup: round((processes * of(rows[0].processes)) / rows[0].processes / of(processes), 2),
  }));
  console.table(medians);
  return { set: values.set, probes: task.probes, rows, medians };
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
      const helpers = await Promise.all(sizes.map((places, i) => peer(SIMULATED, { role: 'helpers', name: `h${i}`, places, piece }, env))); // prettier-ignore
      const jobs = await peer(SIMULATED, { role: 'coordinators', ...shape(), piece }, env);
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

/** A process of ours; `run()` resolves with what it tells at its end. */
async function peer(script, task, env = process.env) {
  const child = fork(fileURLToPath(script), [JSON.stringify(task)], { env });
  process.on('exit', () => child.kill('SIGKILL'));
  const next = () =>
    new Promise((done, fail) => {
      child.once('message', done);
      child.once('exit', (code) => fail(new Error(`${task.role ?? 'a search'} ended with ${code}`)));
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

/**
 * Of a service, so far: what trainers use, and what all else does; `others`: everything on this machine that is not of the service or
 * of this process, which should be next to nothing.
 */
function partsCpu({ parts }) {
  const workers = parts.worker.map(({ pid }) => pid);
  const pids = (list) => list.map(({ pid }) => pid);
  const servers = { postgres: pids([parts.postgres]), redis: pids([parts.redis]), s3: pids([parts.s3]), api: pids(parts.api) }; // prettier-ignore
  const all = cpu({ ...servers, trainers: workers });
  const supervisors = workers.reduce((sum, pid) => sum + ownCpu(pid), 0);
  const [, user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'utf8')
    .split(/\s+/)
    .map(Number);
  const own = process.cpuUsage();
  const service = Object.values(all).reduce((a, b) => a + b);
  const others = (user + nice + system + irq + softirq) / 100 - service - (own.user + own.system) / 1e6;
  return { ...all, supervisors, trainers: all.trainers - supervisors, others };
}

/** Of a process without its children. */
function ownCpu(pid) {
  const [user, system] = stat(pid).slice(11, 13).map(Number);
  return (user + system) / 100;
}

function stat(pid) {
  return readFileSync(`/proc/${pid}/stat`, 'utf8').split(')').at(-1).trim().split(' ');
}

/** Processor seconds of processes and their children, so far. */
function cpu(pids) {
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
