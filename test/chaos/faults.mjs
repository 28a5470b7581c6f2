/** How each kind of fault is made to happen. Each resolves once it has, and rejects when it could not. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { deadline, patience } from './clock.mjs';
import { act } from './users.mjs';

/** A fault that finds nothing to strike for so long never fires, ms. */
const LIMIT = 180_000;
/** Failures after which a job is left alone: five end it, rightly. */
const ENOUGH = 2;

/** Rows of one statement; Postgres may be down just now: tried again. */
export async function sql(stack, text, values = []) {
  for (const late = deadline(30_000); ; await sleep(100)) {
    const client = new pg.Client({ connectionString: stack.databaseUrl, connectionTimeoutMillis: 3000 });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return (await client.query(text, values)).rows;
    } catch (error) {
      if (late()) throw error;
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}

async function until(what, look) {
  for (const late = patience(LIMIT); !late(); await sleep(100)) {
    const found = await look();
    if (found) return found;
  }
  throw new Error(`in ${LIMIT / 1000} s there was no ${what}`);
}

/** A worker at work on a job that can bear another failure, and that job. */
function busyWorker(stack, asleep) {
  return until('worker at work', async () => {
    const jobs = await sql(stack, `
      SELECT id, worker, attempt, lease_token FROM jobs
      WHERE lease_token IS NOT NULL AND lease_until > now() + interval '12 seconds' AND failures <= $1
      ORDER BY failures, id`, [ENOUGH]); // prettier-ignore
    for (const job of jobs) {
      const worker = stack.parts.worker.find((part) => job.worker === nameOf(part) && part.alive);
      if (worker && !asleep.has(worker)) return { worker, job };
    }
  });
}

/** A worker at a piece of another's job of this kind, some time after it took it; and that piece. null: of any kind. */
async function busyHelper({ stack, strike }, kind) {
  const look = async (worker) => {
    const held = await sql(stack, `
      SELECT p.worker, p.lease_token, p.lease_until FROM pieces p JOIN jobs j ON j.id = p.job_id
      WHERE p.worker IS DISTINCT FROM j.worker AND p.worker = coalesce($1, p.worker)
        AND j.request->>'kind' = coalesce($2, j.request->>'kind')
        AND p.lease_until > now() AND p.lease_until < 'infinity' ORDER BY p.claimed_at DESC`, [worker, kind]); // prettier-ignore
    for (const piece of held) {
      const worker = stack.parts.worker.find((part) => piece.worker === nameOf(part) && part.alive);
      if (worker && !asleep.has(worker)) return { worker, piece };
    }
  };
  return until('worker at a piece of another’s job', async () => {
    const found = await look(null);
    if (!found) return;
    // In the middle of its first, or of one of those that follow.
    await sleep(strike * 3000);
    return look(nameOf(found.worker));
  });
}

/** What a worker calls itself in leases. */
const nameOf = (part) => `${hostname()}-${part.pid}`;

/** Trainers and decoders: the children of a worker. */
function childrenOf(pid) {
  return readdirSync('/proc').filter((name) => {
    try {
      const status = readFileSync(`/proc/${name}/stat`, 'latin1');
      return Number(status.slice(status.lastIndexOf(')') + 4).split(' ')[0]) === pid;
    } catch {
      return false;
    }
  }).map(Number); // prettier-ignore
}

/** Workers that are stopped. */
const asleep = new Set();

const kinds = {
  async 'worker-kill'({ stack }) {
    const { worker } = await busyWorker(stack, asleep);
    worker.child.kill('SIGKILL');
  },
  async 'trainer-kill'({ stack }) {
    const child = await until(
      'trainer',
      async () => childrenOf((await busyWorker(stack, asleep)).worker.pid)[0],
    );
    process.kill(child, 'SIGKILL');
  },
  /** Stopped past its lease, with or without its trainer, and woken up: a zombie, which must not write any more. */
  async 'worker-sleep'({ stack, strike }) {
    const { worker, job } = await busyWorker(stack, asleep);
    asleep.add(worker);
    const { child } = worker;
    const pids = strike < 0.5 ? [child.pid, ...childrenOf(child.pid)] : [child.pid];
    const lease = async () => (await sql(stack, 'SELECT lease_token FROM jobs WHERE id = $1', [job.id]))[0];
    try {
      for (const pid of pids) signal(pid, 'SIGSTOP');
      if ((await lease()).lease_token !== job.lease_token) return 'missed';
      // Its lease expires; who takes the job back looks every two seconds, and may have been killed himself.
      await until(`server that took ${job.id} from a worker that slept`, async () => {
        // Whoever stops all of this for a while wakes all of it up again, sleepers too.
        for (const pid of pids) signal(pid, 'SIGSTOP');
        return (await lease()).lease_token !== job.lease_token;
      });
    } finally {
      for (const pid of pids) signal(pid, 'SIGCONT');
      asleep.delete(worker);
    }
  },
  'helper-kill': (context) => killHelper(context, null),
  'helper-sleep': (context) => putHelperToSleep(context, null),
  /** All that a pretraining shares out is measurements. */
  'measurer-kill': (context) => killHelper(context, 'pretrain'),
  'measurer-sleep': (context) => putHelperToSleep(context, 'pretrain'),
  /** While it answers a submission, or one that is repeated. */
  async 'api-kill'({ stack, model, strike }) {
    const i = strike < 0.5 ? 0 : 1;
    const part = stack.parts.api[i % stack.parts.api.length];
    await part.usable();
    const answered = model.replay((strike * 97) % 1, stack.urls[i % stack.urls.length]);
    await sleep((strike * 1000) % 25);
    part.child.kill('SIGKILL');
    await answered;
  },
  async 'redis-flush'({ stack }) {
    await stack.parts.redis.usable();
    const { stdout } = spawnSync('redis-cli', ['-p', String(stack.redisPort), 'FLUSHALL'], {
      encoding: 'utf8',
    });
    if (!stdout.includes('OK')) throw new Error(`FLUSHALL: ${stdout}`);
  },
  'redis-kill': ({ stack }) => restart(stack.parts.redis, 'SIGKILL'),
  'postgres-fast': ({ stack }) => restart(stack.parts.postgres, 'SIGINT'),
  'postgres-immediate': ({ stack }) => restart(stack.parts.postgres, 'SIGQUIT'),
  's3-errors': (context) => s3Trouble('errors', context),
  's3-timeouts': (context) => s3Trouble('timeouts', context),
  's3-truncated': (context) => s3Trouble('truncated', context),
};

async function killHelper(context, kind) {
  const { worker, piece } = await busyHelper(context, kind);
  worker.child.kill('SIGKILL');
  if (!(await isHeld(context.stack, piece))) return 'missed';
}

/** Stopped past the lease of its piece, with or without its child, and woken up: its answer must be refused. */
async function putHelperToSleep(context, kind) {
  const { stack, strike } = context;
  const { worker, piece } = await busyHelper(context, kind);
  asleep.add(worker);
  const { child } = worker;
  const pids = strike < 0.5 ? [child.pid, ...childrenOf(child.pid)] : [child.pid];
  try {
    for (const pid of pids) signal(pid, 'SIGSTOP');
    if (!(await isHeld(stack, piece))) return 'missed';
    await until('end of the lease of a helper that slept', async () => {
      for (const pid of pids) signal(pid, 'SIGSTOP');
      const [{ over }] = await sql(stack, `
        SELECT now() > $2::timestamptz + interval '1 second' AND NOT EXISTS (
          SELECT FROM pieces WHERE lease_token = $1 AND lease_until > now()) AS over`,
        [piece.lease_token, piece.lease_until]); // prettier-ignore
      return over;
    });
  } finally {
    for (const pid of pids) signal(pid, 'SIGCONT');
    asleep.delete(worker);
  }
}

const isHeld = async (stack, { lease_token: token }) =>
  (await sql(stack, 'SELECT 1 FROM pieces WHERE lease_token = $1', [token])).length > 0;

async function restart(part, how) {
  await part.usable();
  part.child.kill(how);
  await part.gone;
  await part.usable();
}

let troubled = Promise.resolve();
/** One trouble at a time; it lasts some seconds, and until somebody has met it. */
function s3Trouble(kind, { stack: { proxy }, strike }) {
  const turn = troubled.then(async () => {
    proxy.begin(kind);
    try {
      await sleep(1000 + 3000 * strike);
      await until(`request to S3 that meets ${kind}`, () => proxy.affected > 0);
    } finally {
      proxy.end();
    }
  });
  troubled = turn.catch(() => undefined);
  return turn;
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended.
  }
}

/** Arms a kill point, and resolves when a process has died of it. */
async function atKillPoint(name, { stack, model, strike }) {
  const file = join(stack.kills, name);
  await until('free kill point', () => !existsSync(file));
  writeFileSync(file, '');
  // Only who makes jobs comes by here.
  if (name === 'api.job-created')
    await model.submit(undefined, stack.urls[strike < 0.5 ? 0 : stack.urls.length - 1]);
  await until(`process at ${name}`, () => !existsSync(file));
}

/** @param context `{ stack, model, strike }` */
export async function strike(kind, context) {
  if (kind.startsWith('user ')) return act(kind, context);
  if (kind.startsWith('at ')) return atKillPoint(kind.slice(3), context);
  // Who had just finished when he was struck was not struck.
  while ((await kinds[kind](context)) === 'missed');
}
