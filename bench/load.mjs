// Many watchers and submissions at once: two API servers and two workers that train, on a Postgres that waits for the disk, a
// Redis and an S3 server of their own. Every submission is sent when it is due, whatever became of those before, and its
// time counts from then. Afterwards everything that was answered must be there once, and every watcher must have seen
// every event of its job.
// The first seconds after a start, in which the servers' code is still being compiled, are told apart by --warm SECONDS.
// npm run bench -- load [--watchers 500] [--rate 200] [--seconds 30] [--tenants 4] [--profile FOLDER] [--statements] [--warm 0]
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { openQueue } from '../packages/queue/lib/index.js';
import { pictures } from '../test/chaos/pictures.mjs';
import { requireServers, startStack } from '../test/chaos/stack.mjs';

const { values } = parseArgs({
  options: {
    watchers: { type: 'string', default: '500' },
    rate: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '30' },
    tenants: { type: 'string', default: '4' },
    warm: { type: 'string', default: '0' },
    profile: { type: 'string' },
    statements: { type: 'boolean', default: false },
  },
});
const [watchers, rate, seconds, tenants, warm] = ['watchers', 'rate', 'seconds', 'tenants', 'warm'].map(
  (name) => Number(values[name]),
);
/** Keys of a tenant: a key may make 100 requests a second of a server. */
const KEYS = 2;
/** Jobs that train while the others come; two of three watchers watch them. */
const TRAINING = 12;
requireServers();
const folder = mkdtempSync(join(tmpdir(), 'ntaa-load-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => process.exit(130));
const apiFlags = [];
if (values.profile) {
  mkdirSync(resolve(values.profile), { recursive: true });
  apiFlags.push('--cpu-prof', `--cpu-prof-dir=${resolve(values.profile)}`);
}
const stack = await startStack(folder, { durable: true, apiFlags, statements: values.statements });
const db = new pg.Client({ connectionString: stack.databaseUrl });
await db.connect();
if (values.statements) await db.query('CREATE EXTENSION pg_stat_statements');
const agent = new Agent({ keepAlive: true, maxSockets: 256 });
const failures = {};
const round = (value) => Number(value.toFixed(1));
let result;
try {
  result = await measure();
} finally {
  await db.end();
  agent.destroy();
  await stack.stop();
}
console.log(JSON.stringify(result));
process.exit(result.problems.length ? 1 : 0);

async function measure() {
  const people = await Promise.all(Array.from({ length: tenants }, (_, i) => settle(i)));
  const body = ({ dataset }) =>
    JSON.stringify({ kind: 'adapt', task: 'classification', dataset, budget: { max_candidates: 3 } });
  const submit = async (n, key) => {
    const person = people[n % tenants];
    const headers = { 'idempotency-key': key };
    const { id } = await ask('POST', '/v1/jobs', { n, headers, key: person.keys[(n / tenants) & 1], body: body(person), want: 202 }); // prettier-ignore
    return { id, key: person.keys[0], n };
  };
  const training = [];
  for (let n = 0; n < TRAINING; n++) training.push(await submit(n, `training-${n}`));
  // One of three watches a job of its own, which is cancelled after a while.
  const single = Math.floor(watchers / 3);
  const waiting = [];
  for (let n = 0; n < single; n++) waiting.push(await submit(n, `waiting-${n}`));
  const watched = Array.from({ length: watchers }, (_, i) => waiting[i] ?? training[i % TRAINING]);
  const eyes = [];
  for (const [i, job] of watched.entries()) {
    eyes.push(watch(job, i));
    await eyes[i].open;
  }
  if (values.statements) await db.query('SELECT pg_stat_statements_reset()');
  console.log(`${watchers} watchers; ${rate} submissions a second for ${seconds} s`);

  const before = usage();
  const cores = [processorOf()];
  const look = setInterval(() => cores.push(processorOf()), 1000);
  const loop = monitorEventLoopDelay({ resolution: 5 });
  loop.enable();
  /** The same by the second in which they were due. */
  const bySecond = Array.from({ length: seconds }, () => []);
  const answered = new Set();
  let refused = 0;
  const flying = [];
  const began = performance.now();
  let cancelled = 0;
  for (let n = 0; n < rate * seconds;) {
    const now = performance.now() - began;
    for (; n < rate * seconds && (n / rate) * 1000 <= now; n++) {
      const due = began + (n / rate) * 1000;
      const sent = submit(n, `load-${n}`).then(
        ({ id }) => {
          const second = Math.floor((due - began) / 1000);
          bySecond[second].push(performance.now() - due);
          answered.add(id);
        },
        () => (refused += 1),
      );
      flying.push(sent);
    }
    for (; cancelled < Math.min(single, (single * now) / 1000 / seconds - 1); cancelled++) {
      const { id, key, n: who } = waiting[cancelled];
      flying.push(ask('POST', `/v1/jobs/${id}/cancel`, { n: who, key, want: 202 }).catch(() => undefined));
    }
    await sleep(2);
  }
  await Promise.all(flying);
  loop.disable();
  clearInterval(look);
  const used = usage(before);
  const submitted = (performance.now() - began) / 1000;
  const delays = eyes.flatMap((eye) => eye.delays);
  console.log(`submitted in ${submitted.toFixed(1)} s; looking for what was lost`);
  const statements = values.statements ? await slowest() : undefined;
  const problems = await lost(answered, eyes);
  return {
    ...{ bench: 'load', watchers, rate, seconds, tenants, answered: answered.size, refused, failures },
    ...{
      submissions_per_second: round(answered.size / submitted),
      submission_ms: spread(bySecond.slice(warm).flat()),
    },
    ...(warm && { warm, warming_ms: spread(bySecond.slice(0, warm).flat()) }),
    // Processor seconds, by the second: of the trainers only what nobody else wants.
    cores_by_second: cores.slice(1).map((now, i) => differences(now, cores[i])),
    slowest_by_second_ms: bySecond.map((list) => Math.round(Math.max(...list))),
    ...{
      events: delays.length,
      event_delay_ms: spread(delays),
      generator_lag_ms: round(loop.percentile(99) / 1e6),
    },
    ...{ processes: used, trained: await trained(training), statements, problems },
  };
}

/** A tenant, its keys, and a dataset that is ready. Every other one has quotas that are checked and never reached. */
async function settle(i) {
  const json = { key: stack.key, want: 201 };
  const quotas = i % 2 ? { concurrent_jobs: 1_000_000, compute_seconds_per_month: 1_000_000 } : {};
  const tenant = await ask('POST', '/v1/tenants', {
    ...json,
    body: JSON.stringify({ name: `load ${i}`, quotas }),
  });
  const keys = [];
  for (let k = 0; k < KEYS; k++) {
    const body = JSON.stringify({ name: `load ${k}`, scopes: ['read', 'write'], tenant: tenant.id });
    keys.push((await ask('POST', '/v1/api-keys', { ...json, body })).secret);
  }
  const form = new FormData();
  form.set('file', new Blob([await pictures()]), 'rows.zip');
  const headers = { authorization: `Bearer ${keys[0]}` };
  const { id } = await (
    await fetch(`${stack.urls[0]}/v1/datasets`, { method: 'POST', headers, body: form })
  ).json();
  for (;;) {
    const dataset = await ask('GET', `/v1/datasets/${id}`, { key: keys[0], want: 200 });
    if (dataset.status === 'ready') return { keys, dataset: id };
    await sleep(100);
  }
}

function ask(method, path, { n = 0, key, headers, body, want }) {
  return new Promise((done, fail) => {
    const url = stack.urls[n % stack.urls.length] + path;
    const type = body && { 'content-type': 'application/json' };
    const options = { method, agent, headers: { authorization: `Bearer ${key}`, ...type, ...headers } };
    const wrong = (what) => {
      failures[what] = (failures[what] ?? 0) + 1;
      fail(new Error(`${method} ${path}: ${what}`));
    };
    const sent = request(url, options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => (text += part));
      response.on('error', ({ code }) => wrong(code));
      response.on('end', () => {
        if (response.statusCode !== want)
          return wrong(`${response.statusCode} ${JSON.parse(text).code ?? ''}`);
        done(JSON.parse(text));
      });
    });
    sent.on('error', ({ code }) => wrong(code));
    sent.end(body);
  });
}

/** Reads a job's events for as long as they come. Delays are counted from the begin of the transaction that wrote them. */
function watch(job, i) {
  const eye = { job: job.id, seen: [], delays: [], ended: false };
  eye.open = new Promise((open, fail) => {
    const headers = { authorization: `Bearer ${job.key}`, accept: 'text/event-stream' };
    const url = `${stack.urls[i % stack.urls.length]}/v1/jobs/${job.id}/events`;
    const sent = request(url, { headers, agent: false }, (response) => {
      if (response.statusCode !== 200) return fail(new Error(`a watcher is answered ${response.statusCode}`));
      open();
      const opened = Date.now();
      let text = '';
      response.setEncoding('utf8').on('data', (part) => {
        const now = Date.now();
        const frames = (text + part).split('\n\n');
        text = frames.pop();
        for (const frame of frames) {
          const data = /^data: (.*)$/m.exec(frame)?.[1];
          if (!data) continue;
          const event = JSON.parse(data);
          eye.seen.push(event.seq);
          const at = Date.parse(event.created_at);
          // What was there before is a replay.
          if (at > opened) eye.delays.push(now - at);
          if (event.type === 'done') eye.ended = true;
        }
      });
      response.on('error', () => undefined);
    });
    sent.on('error', (error) => (eye.error = error.message));
    sent.end();
    eye.close = () => sent.destroy();
  });
  return eye;
}

/** What is not as it was promised. */
async function lost(answered, eyes) {
  const problems = [];
  const count = async (sql) => Number((await db.query(sql)).rows[0].count);
  for (const end = Date.now() + 30_000; Date.now() < end; await sleep(100))
    if ((await count('SELECT count(*) FROM outbox WHERE dispatched_at IS NULL')) === 0) break;
  await sleep(1000);
  const { rows: jobs } = await db.query('SELECT id, status, attempt, last_seq FROM jobs');
  const byId = new Map(jobs.map((job) => [job.id, job]));
  const expected = answered.size + TRAINING + Math.floor(watchers / 3);
  if (jobs.length !== expected) problems.push(`${jobs.length} jobs are there, ${expected} were promised`);
  for (const id of answered) if (!byId.has(id)) problems.push(`${id} is lost`);
  const undispatched = await count('SELECT count(*) FROM outbox WHERE dispatched_at IS NULL');
  if (undispatched) problems.push(`${undispatched} entries wait in the outbox`);
  const twice = await count(
    `SELECT count(*) FROM (SELECT dedupe FROM outbox GROUP BY dedupe HAVING count(*) > 1) AS t`,
  );
  if (twice) problems.push(`${twice} entries of the outbox are there twice`);
  const queue = await openQueue({
    databaseUrl: stack.databaseUrl,
    redisUrl: `redis://127.0.0.1:${stack.redisPort}`,
  });
  const waits = jobs.filter(({ status }) => status === 'queued');
  const there = await queue.present(
    'job.run',
    waits.map(({ id, attempt }) => `${id}-${attempt + 1}`),
  );
  await queue.close();
  // Those taken since the jobs were read are running.
  const missing = waits.length - there.size;
  if (missing > stack.parts.worker.length) problems.push(`${missing} queued jobs are not in the queue`);
  for (const eye of eyes) {
    eye.close();
    const { last_seq: last, status } = byId.get(eye.job);
    if (eye.error && !eye.ended) problems.push(`a watcher of ${eye.job}: ${eye.error}`);
    // It may have seen more since.
    if (eye.seen.length < last || eye.seen.some((seq, i) => seq !== i + 1))
      problems.push(`a watcher of ${eye.job} (${status}) saw ${eye.seen.length} of ${last} events`);
  }
  return problems.slice(0, 20);
}

async function trained(jobs) {
  const ids = jobs.map(({ id }) => id);
  const { rows } = await db.query('SELECT status, count(*)::int FROM jobs WHERE id = ANY($1) GROUP BY 1', [
    ids,
  ]);
  return Object.fromEntries(rows.map(({ status, count }) => [status, count]));
}

/** Processor seconds and memory of the API's processes, and of this one. */
function usage(before) {
  const of = (pid) => {
    const [, user, system] = / (?:\S+ ){11}(\d+) (\d+) /.exec(
      readFileSync(`/proc/${pid}/stat`, 'utf8').split(')')[1],
    );
    const mb = (name) => Math.round(new RegExp(`${name}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1] / 1024); // prettier-ignore
    return { cpu: (Number(user) + Number(system)) / 100, rss_mb: mb('VmRSS'), peak_mb: mb('VmHWM') };
  };
  const all = Object.fromEntries(stack.parts.api.map((part) => [part.name, of(part.pid)]));
  all.generator = of(process.pid);
  for (const [name, { cpu }] of Object.entries(before ?? {})) all[name].cpu = round(all[name].cpu - cpu);
  return all;
}

/** Processor seconds that every part has had, its children included. */
function processorOf() {
  const children = new Map();
  const spent = new Map();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const parent = Number(fields[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
      spent.set(Number(name), (Number(fields[11]) + Number(fields[12])) / 100);
    } catch {
      // It has ended.
    }
  }
  const under = (pid) =>
    (children.get(pid) ?? []).reduce((sum, child) => sum + (spent.get(child) ?? 0) + under(child), 0);
  const { api, worker, postgres, redis, s3 } = stack.parts;
  const of = (parts) => parts.reduce((sum, { pid }) => sum + (spent.get(pid) ?? 0), 0);
  return {
    ...{
      api: of(api),
      postgres: spent.get(postgres.pid) + under(postgres.pid),
      redis: of([redis]),
      s3: of([s3]),
    },
    ...{
      workers: of(worker),
      trainers: worker.reduce((sum, { pid }) => sum + under(pid), 0),
      bench: spent.get(process.pid),
    },
  };
}
function differences(now, before) {
  const entries = Object.entries(now).map(([name, spent]) => [
    name,
    Number((spent - before[name]).toFixed(2)),
  ]);
  return Object.fromEntries(entries);
}

async function slowest() {
  const { rows } = await db.query(`
    SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), 150) AS query, calls::int, round(total_exec_time)::int AS total_ms,
      round(mean_exec_time::numeric, 3)::float8 AS mean_ms FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 25`);
  console.table(rows);
  return rows.length;
}

function spread(list) {
  const sorted = [...list].sort((a, b) => a - b);
  const at = (q) => round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN);
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}
