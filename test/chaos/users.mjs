/** What users do while things go wrong: each of these is planned and dealt like a fault, and goes on until it has its answer. */
import { setTimeout as sleep } from 'node:timers/promises';
import { patience } from './clock.mjs';
import { pictures } from './pictures.mjs';

export const USERS = ['user pauses and resumes', 'user stops', 'user cancels', 'user uploads in parts'];

/** A user who finds nothing to do for so long never does anything, ms. */
const LIMIT = 180_000;
/** Parts may be being joined by a server that died; another may try again after 150 s. */
const JOINING = 200_000;

/** A job that nobody has asked anything of, in one of these statuses; from now on it is asked this. */
async function someJob(model, strike, statuses, asked) {
  for (const late = patience(LIMIT); !late(); await sleep(300)) {
    const open = (await model.unfinished()).filter(
      ({ asked, last }) => asked === undefined && statuses.includes(last?.status),
    );
    const job = open[Math.floor(strike * open.length)];
    if (!job) continue;
    job.asked = asked;
    return job;
  }
  throw new Error(`in ${LIMIT / 1000} s there was no job that is ${statuses.join(' or ')}`);
}

/** @returns whether the service has agreed. */
async function ask(model, job, action) {
  const answer = await model.insist('POST', `/v1/jobs/${job.id}/${action}`, [200, 202, 409]);
  return answer !== null && answer.status !== 409;
}

const kinds = {
  async 'user pauses and resumes'({ model, strike }) {
    const job = await someJob(model, strike, ['queued', 'running'], 'pause');
    if (!(await ask(model, job, 'pause'))) return;
    // Now and then before it has obeyed.
    await sleep(strike * 8000);
    if (await ask(model, job, 'resume')) return;
    const { status } = await model.get(`/v1/jobs/${job.id}`);
    if (!['succeeded', 'failed'].includes(status)) model.violate(`${job.id}, ${status}, cannot be resumed`);
  },
  async 'user stops'({ model, strike }) {
    const job = await someJob(model, strike, ['running'], 'stop');
    await ask(model, job, 'stop');
  },
  async 'user cancels'({ model, strike }) {
    const job = await someJob(model, strike, strike < 0.5 ? ['running'] : ['queued', 'running'], 'cancel');
    job.cancelled = await ask(model, job, 'cancel');
  },
  /** Two parts, of which S3 wants the first to have 5 MiB; then the dataset that they become. */
  async 'user uploads in parts'({ model }) {
    const archive = await pictures({ padding: 6 * 2 ** 20 });
    const key = `upload-${model.uploads.size + 1}`;
    model.uploads.set(key, null);
    const once = { 'idempotency-key': key };
    const begun = await model.insist('POST', '/v1/uploads', [201], {
      body: { size: archive.length },
      headers: once,
    });
    if (!begun) return;
    const { id } = JSON.parse(begun.bytes.toString());
    let parts = [];
    for (const late = patience(LIMIT); ; await sleep(200)) {
      parts = (await model.get(`/v1/uploads/${id}`)).parts.filter(({ received }) => !received);
      if (parts.length === 0) break;
      if (late()) return model.violate(`${id} still lacks ${parts.length} parts`);
      for (const { url, offset, size } of parts) {
        const body = archive.subarray(offset, offset + size);
        await fetch(url, { method: 'PUT', body, signal: AbortSignal.timeout(10_000) })
          .then((response) => response.arrayBuffer())
          .catch(() => undefined);
      }
    }
    const answer = await model.insist('POST', '/v1/datasets', [202], {
      ...{ body: { upload: id }, headers: once, patience: JOINING },
      // In flight, or not all parts known yet.
      retry: [409],
    });
    if (answer) model.uploads.set(key, JSON.parse(answer.bytes.toString()).id);
  },
};

export const act = (kind, context) => kinds[kind](context);
