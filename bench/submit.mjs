// What a submission costs, and an event that a watcher gets: processor milliseconds of two API servers, Postgres and Redis.
// Unlike times (bench/load.mjs), they say something on a machine that others use, too. No worker is there.
// The first submissions after a start are told apart: they meet cold code.
// npm run bench -- submit [--first 200] [--then 1500] [--at-once 4] [--watchers 200] [--events 100] [--profile FOLDER]
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { openDatabase } from '../packages/db/lib/index.js';
import { countArchitectures, tinySpace } from '../packages/nas/lib/index.js';
import { requireServers, startStack } from '../test/chaos/stack.mjs';

const { values } = parseArgs({
  options: {
    first: { type: 'string', default: '200' },
    then: { type: 'string', default: '1500' },
    'at-once': { type: 'string', default: '4' },
    watchers: { type: 'string', default: '200' },
    events: { type: 'string', default: '100' },
    profile: { type: 'string' },
  },
});
const [first, then, atOnce, watchers, events] = ['first', 'then', 'at-once', 'watchers', 'events'].map(
  (name) => Number(values[name]),
);
/** One in two has quotas, which are checked and never reached. */
const TENANTS = 4;
requireServers();
const folder = mkdtempSync(join(tmpdir(), 'ntaa-submit-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => process.exit(130));
const apiFlags = [];
if (values.profile) {
  mkdirSync(resolve(values.profile), { recursive: true });
  apiFlags.push('--cpu-prof', `--cpu-prof-dir=${resolve(values.profile)}`);
}
const stack = await startStack(folder, { durable: true, workers: 0, apiFlags });
const agent = new Agent({ keepAlive: true });
const db = await openDatabase(stack.databaseUrl);
const sql = new pg.Client({ connectionString: stack.databaseUrl });
await sql.connect();
try {
  const starting = spent();
  const people = [];
  for (let i = 0; i < TENANTS; i++) people.push(await settle(i));
  const cold = await costs(first, () => submitAll(people, 0, first));
  const warm = await costs(then, () => submitAll(people, first, then));
  const seen = await watch(people[0]);
  const event = await costs(watchers * events, seen.write);
  seen.close();
  console.log(JSON.stringify({ bench: 'submit', first, then, at_once: atOnce, starting_s: starting, first_ms: cold, then_ms: warm, watchers, event_ms: event })); // prettier-ignore
} finally {
  await sql.end();
  await db.close();
  agent.destroy();
  await stack.stop();
}
process.exit(0);

async function settle(i) {
  const limits = i % 2 ? { concurrent_jobs: 1_000_000, compute_seconds_per_month: 1_000_000 } : {};
  const { id: tenant } = await db.tenants.create({ name: `tenant ${i}`, quotas: limits });
  const keys = await Promise.all([1, 2].map((k) => db.keys.create({ name: `key ${k}`, scopes: ['read', 'write'], tenant }))); // prettier-ignore
  const id = `ds_${'0'.repeat(22)}${i}`;
  const upload = { uploadKey: `datasets/${id}/upload`, sha256: 'ab'.repeat(32), bytes: 1 };
  await db.datasets.create({ id, name: 'rows', format: null, tenant, ...upload });
  const counts = { images: 100, skipped: 0, bytes: 1000, classes: 3, splits: null };
  const labels = ['a', 'b', 'c'].map((name) => ({ name, count: 33 }));
  const report = { error: null, skipped: [], warnings: [], sizes: null };
  await db.datasets.markReady(id, { format: 'image-folder', counts, labels, report, pack: {} });
  await db.supernets.upsertBuiltin({
    ...{ name: 'tiny', source: 'none', paradigm: 'supervised', search_space: tinySpace },
    ...{ architectures: countArchitectures(tinySpace), params: 1, size_bytes: 4, sha256: 'cd'.repeat(32), metrics: {} }, // prettier-ignore
  });
  return { keys: keys.map(({ secret }) => secret), dataset: id };
}

async function submitAll(people, from, count) {
  let next = from;
  const one = async () => {
    while (next < from + count) {
      const n = next++;
      const { keys, dataset } = people[n % TENANTS];
      const body = { kind: 'adapt', task: 'classification', dataset, budget: { max_candidates: 3 } };
      await submit(n, keys[(n / TENANTS) & 1], JSON.stringify(body));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, one));
}

function submit(n, key, body) {
  return new Promise((done, fail) => {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json', 'idempotency-key': `n-${n}` }; // prettier-ignore
    const sent = request(`${stack.urls[n % 2]}/v1/jobs`, { method: 'POST', agent, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => (text += part));
      response.on('end', async () => {
        // More than a key may in a second, where the machine is fast.
        if (response.statusCode === 429) await sleep(200).then(() => submit(n, key, body).then(done, fail));
        else if (response.statusCode === 202) done(JSON.parse(text));
        else fail(new Error(`${response.statusCode} ${text}`));
      });
    });
    sent.on('error', fail);
    sent.end(body);
  });
}

/** Watchers of ten jobs, in equal parts. `write` resolves when everybody has every event. */
async function watch({ keys, dataset }) {
  const body = JSON.stringify({ kind: 'adapt', task: 'classification', dataset });
  const jobs = [];
  for (let i = 0; i < 10; i++) jobs.push((await submit(1e6 + 2 * i, keys[0], body)).id);
  let came = 0;
  const open = [];
  for (let i = 0; i < watchers; i++) {
    const headers = { authorization: `Bearer ${keys[1]}`, accept: 'text/event-stream' };
    const url = `${stack.urls[i % 2]}/v1/jobs/${jobs[i % 10]}/events`;
    await new Promise((opened) => {
      const sent = request(url, { headers, agent: false }, (response) => {
        response
          .setEncoding('utf8')
          .on('data', (part) => (came += part.split('\nevent: progress').length - 1));
        opened();
      });
      sent.end();
      open.push(sent);
    });
  }
  await sleep(1000);
  return {
    async write() {
      const data = { fraction: 0.5, eta_seconds: 60, message: 'Training the supernet: step 120 of 400' };
      for (let i = 0; i < events; i++) {
        await sql.query(
          `WITH job AS (UPDATE jobs SET last_seq = last_seq + 1 WHERE id = ANY($1) RETURNING id, tenant_id, last_seq)
           INSERT INTO job_events (job_id, tenant_id, seq, type, data)
           SELECT id, tenant_id, last_seq, 'progress', $2 FROM job`,
          [jobs, data],
        );
        while (came < watchers * (i + 1)) await sleep(5);
      }
    },
    close: () => open.forEach((sent) => sent.on('error', () => undefined).destroy()),
  };
}

/** Processor milliseconds for each of `count`. */
async function costs(count, work) {
  const before = spent();
  await work();
  const after = spent();
  const each = (name) => [name, Number((((after[name] - before[name]) * 1000) / count).toFixed(3))];
  return Object.fromEntries(Object.keys(after).map(each));
}

/** Processor seconds so far, of Postgres with its children. */
function spent() {
  const { api, postgres, redis } = stack.parts;
  const all = { api: 0, postgres: 0, redis: 0 };
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const [pid, parent] = [Number(name), Number(fields[1])];
      const of = api.some((part) => part.pid === pid) ? 'api' : pid === redis.pid ? 'redis' : [pid, parent].includes(postgres.pid) ? 'postgres' : undefined; // prettier-ignore
      if (of) all[of] += (Number(fields[11]) + Number(fields[12])) / 100;
    } catch {
      // It has ended.
    }
  }
  return all;
}
