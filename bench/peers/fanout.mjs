// A process of bench/fanout.mjs --simulate: workers that compute nothing. It says when it is ready, is told to go, and tells what
// was. Everything between them is real: the coordinators' side of apps/worker, leases, outbox, queue.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { answerPieces } from '../../apps/worker/lib/offers.js';
import { engineKey } from '../../apps/worker/lib/engine-key.js';
import { openDatabase } from '../../packages/db/lib/index.js';
import { openQueue } from '../../packages/queue/lib/index.js';

const task = JSON.parse(process.argv[2]);
const engine = { kind: 'tensorflow-gpu', name: 'simulated', reason: 'bench' };
const LEASE = 15_000;
const LOAD = { slots: 1, free: 1, idleMs: 0 };
/** What really goes to and fro, in size. */
const block = { kernel: 3, expand: 4 };
const stages = Array.from({ length: 4 }, () => [block, block, block]);
const GENOTYPE = { space: 'tiny', resolution: 32, stages };
const RESULT = {
  loss: 0.4321987654,
  error: 0.0123456789,
  quality: 0.87654,
  metrics: { top1: 0.87654, loss: 0.43219 },
};
const db = await openDatabase(process.env.DATABASE_URL, { connections: task.role === 'helpers' ? 8 : 16 });
const tell = (value) => process.send(value);
const told = () => new Promise((done) => process.once('message', done));

if (task.role === 'helpers') await helpers();
else await coordinators();

async function helpers() {
  const { name, places, piece } = task;
  const queue = await openQueue({ databaseUrl: process.env.DATABASE_URL, redisUrl: process.env.REDIS_URL });
  const names = Array.from({ length: places }, (_, i) => `${name}x${i}-1`);
  const present = () => Promise.all(names.map((worker) => db.workers.present(worker, engine, LOAD)));
  await present();
  setInterval(() => void present(), 20_000);
  const free = [...names];
  let [done, refused] = [0, 0];
  await queue.work('job.help', places, async ({ job_id }) => {
    const worker = free.pop();
    const taker = { worker, engine: engineKey(engine), otherHostThan: null };
    try {
      for (;;) {
        const claim = await claimSoon(() => db.pieces.claim(job_id, taker, LEASE));
        if (!claim) return;
        await sleep(piece);
        if (
          await db.pieces.complete(
            claim.lease,
            claim.spec.genotypes.map(() => RESULT),
          )
        )
          done += 1;
        else refused += 1;
      }
    } finally {
      free.push(worker);
    }
  });
  tell('ready');
  await told();
  tell({ done, refused });
}

/** As apps/worker/src/helping.ts does. */
async function claimSoon(claim) {
  let claimed = await claim();
  for (const pause of [50, 100, 200, 400]) {
    if (claimed) break;
    await sleep(pause);
    claimed = await claim();
  }
  return claimed;
}

async function coordinators() {
  const { jobs, rounds, pieces, piece } = task;
  const dataset = `ds_${randomUUID()}`;
  await db.datasets.create({ id: dataset, name: 'x', format: null, tenant: 'default', uploadKey: dataset, sha256: 'a', bytes: 1 }); // prettier-ignore
  const counts = { images: 2, skipped: 0, bytes: 2, classes: 2, splits: null };
  const report = { error: null, skipped: [], warnings: [], sizes: null };
  await db.datasets.markReady(dataset, { format: 'image-folder', counts, labels: [], report, pack: {} });
  const leases = [];
  for (let i = 0; i < jobs; i++) {
    const { id } = await db.jobs.create('default', { kind: 'adapt', task: 'classification', dataset });
    leases.push((await db.jobs.claim(id, `c${i}-1`, LEASE)).lease);
  }
  const heart = setInterval(() => leases.forEach((lease) => void db.jobs.renew(lease, LEASE).catch(() => undefined)), 1000); // prettier-ignore
  tell('ready');
  await told();
  const [offers, nexts] = [[], []];
  const began = performance.now();
  await Promise.all(leases.map(work));
  const seconds = (performance.now() - began) / 1000;
  clearInterval(heart);
  for (const lease of leases) await db.jobs.cancelled(lease);
  tell({ pieces: jobs * rounds * pieces, seconds, offer: spread(offers), next: spread(nexts) });

  /** As fanOut does, in packages/adaptation. */
  async function work(lease, i) {
    const context = { db, worker: `c${i}-1`, engine, config: { threads: 1 }, gpus: [] };
    const ask = async (into, question) => {
      const asked = performance.now();
      const answer = await answerPieces(context, lease, question, null);
      into.push(performance.now() - asked);
      return answer;
    };
    for (let round = 0; round < rounds; round++) {
      const subject = { key: `jobs/${lease.jobId}/pieces/${round}`, sha256: 'a'.repeat(64), size: 1 };
      const specs = Array.from({ length: pieces }, (_, k) => ({
        subject,
        genotypes: [{ ...GENOTYPE, k }, GENOTYPE],
      }));
      const waiting = new Set(
        await ask(offers, { ask: 'offer', pieces: specs, wake: Math.ceil(pieces / 2) }),
      );
      let finished = [];
      while (waiting.size > 0) {
        const step = { wanted: [...waiting], finished, impatient: false };
        const { taken, done } = await ask(nexts, { ask: 'next', ...step });
        finished = [];
        for (const { id } of done) waiting.delete(id);
        if (taken) {
          await sleep(piece);
          waiting.delete(taken);
          finished = [{ id: taken, result: specs[0].genotypes.map(() => RESULT) }];
        } else if (waiting.size > 0) await sleep(50);
      }
    }
  }
}

function spread(list) {
  const sorted = list.sort((a, b) => a - b);
  const at = (q) => Number(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))].toFixed(1));
  return { p50: at(0.5), p99: at(0.99) };
}
