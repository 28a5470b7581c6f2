/** What must be true once the faults are over and every job has ended. */
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { openStore } from '@ntaa/storage';
import { deadline } from './clock.mjs';
import { sql } from './faults.mjs';
import { sha256 } from './model.mjs';

const STAGES = ['prepare', 'transfer', 'pretrain', 'search', 'finetune', 'evaluate', 'export'];
const FORMATS = ['onnx', 'tfjs', 'safetensors', 'bundle'];
const ENDS = ['succeeded', 'failed'];
/** Legal next statuses. */
const NEXT = {
  queued: ['running', 'paused', 'cancelled'],
  running: ['queued', 'pausing', 'stopping', 'cancelling', ...ENDS],
  pausing: ['paused', 'running', 'stopping', 'cancelling', ...ENDS],
  paused: ['queued', 'cancelled'],
  // Given back, and taken again to be finished.
  stopping: ['stopping', 'cancelling', 'cancelled', ...ENDS],
  cancelling: ['cancelled'],
};
/** What only a user can have caused. */
const ASKED = {
  pausing: 'pause',
  paused: 'pause',
  stopping: 'stop',
  cancelling: 'cancel',
  cancelled: 'cancel',
};
/** What the planned faults may make of an attempt, and five of them of a job. */
const EXPLAINED = new Set(['worker-lost', 'storage-unavailable', 'internal']);
const MAX_FAILURES = 5;

/** @param references of uninterrupted jobs, by recipe: `weights`, their SHA-256, and `figures`. Returns figures for the report. */
export async function checkAll(stack, model, references) {
  const figures = { succeeded: 0, stopped: 0, cancelled: 0, failed: 0, attempts: 0, events: 0 };
  const supernets = new Set();
  const models = await everyPage(model, '/v1/models');
  for (const job of model.jobs.values()) {
    if (!job.done || job.last === undefined) continue;
    const events = await everyPage(model, `/v1/jobs/${job.id}/events`);
    figures.events += events.length;
    figures.attempts += job.last.attempt;
    figures[job.last.status] = (figures[job.last.status] ?? 0) + 1;
    for (const problem of eventProblems(events, job)) model.violate(`${job.id}: ${problem}`);
    const own = models.filter(({ lineage }) => lineage.job === job.id);
    if (job.cancelled === true && job.last.status !== 'cancelled')
      model.violate(`${job.id} was cancelled, and is ${job.last.status}`);
    if (job.last.status !== 'succeeded') {
      if (own.length) model.violate(`${job.id} is ${job.last.status} and has a model`);
      if (job.last.status === 'cancelled' && job.asked === 'cancel') continue;
      const codes = events.filter(({ type }) => type === 'warning').map(({ data }) => data.code);
      const explained =
        codes.length >= MAX_FAILURES - 1 &&
        [...codes, job.last.error?.code].every((code) => EXPLAINED.has(code));
      if (!explained)
        model.violate(`${job.id} is ${job.last.status}: ${JSON.stringify(job.last.error)} after ${codes}`);
      continue;
    }
    const { model: made, supernet } = job.last.result;
    if (own.length !== (made ? 1 : 0) || own[0]?.id !== made)
      model.violate(`${job.id} names ${made}, and has ${own.map(({ id }) => id)}`);
    const weights = await weightsOf(model, job.last.result);
    if (supernet) supernets.add(supernet);
    if (job.asked === 'stop' && job.last.stop_reason === 'user_stopped') figures.stopped += 1;
    else {
      const reference = references[job.recipe];
      const who = `${job.id}, ${job.last.attempt} attempts,`;
      if (weights !== reference.weights) model.violate(`${who} has other weights than the uninterrupted one`);
      const found = figuresOf(job.last.result);
      if (found !== reference.figures) model.violate(`${who} has ${found} and not ${reference.figures}`);
    }
  }
  const promised = new Set([...model.jobs.values()].map(({ id }) => id));
  const there = (await everyPage(model, '/v1/jobs')).map(({ id }) => id);
  for (const id of there) if (!promised.has(id)) model.violate(`${id} was never promised: made twice`);
  for (const id of promised) if (!there.includes(id)) model.violate(`${id} was promised and is not there`);
  for (const { id, builtin } of await everyPage(model, '/v1/supernets'))
    if (!builtin && !supernets.has(id)) model.violate(`supernet ${id} belongs to nobody`);
  await checkUploads(stack, model);
  await stack.stopWorkers();
  await passTime(stack);
  await checkTables(stack, model);
  await checkStorage(stack, model);
  for (const url of stack.urls)
    if ((await model.ask('GET', '/readyz', { url }))?.status !== 200) model.violate(`${url} is not ready`);
  return figures;
}

/** What a job has found out, seconds apart. */
export const figuresOf = ({ metrics, macs, params, baseline, search, curves, subnets }) =>
  JSON.stringify({ metrics, macs, params, baseline, search, curves, subnets });

async function everyPage(model, path) {
  const all = [];
  for (let after; ;) {
    const page = await model.get(`${path}?limit=100${after === undefined ? '' : `&after=${after}`}`);
    all.push(...page.data);
    if (!page.has_more) return all;
    after = page.next_cursor;
  }
}

/** The hash of what a job has made. */
export async function weightsOf(model, { model: id, supernet }) {
  return id ? checkDownloads(model, id) : (await model.get(`/v1/supernets/${supernet}`)).sha256;
}

/** Every upload was begun once, and became one dataset, which is ready. */
async function checkUploads(stack, model) {
  const promised = [...model.uploads.values()].filter((id) => id !== null);
  for (const id of promised)
    for (const late = deadline(120_000); ; await sleep(300)) {
      const { status } = await model.get(`/v1/datasets/${id}`);
      if (status === 'ready') break;
      if (status === 'validating' && !late()) continue;
      model.violate(`the dataset ${id} of an upload is ${status}`);
      break;
    }
  const begun = await sql(stack, 'SELECT id, dataset_id FROM uploads');
  const became = begun.map((row) => row.dataset_id).filter(Boolean);
  if (begun.length !== model.uploads.size || became.sort().join() !== promised.sort().join())
    model.violate(`uploads ${JSON.stringify(begun)}, of which ${promised} were promised`);
}

function* eventProblems(events, { last: job, asked }) {
  const gap = events.findIndex(({ seq }, i) => seq !== i + 1);
  if (gap !== -1) yield `event ${gap + 1} has number ${events[gap].seq}`;
  const done = events.filter(({ type }) => type === 'done').length;
  if (done !== 1 || events.at(-1)?.type !== 'done')
    yield `${done} events "done", the last is ${events.at(-1)?.type}`;
  const statuses = events.filter(({ type }) => type === 'status').map(({ data }) => data);
  if (statuses[0]?.status !== 'queued') yield `begins as ${statuses[0]?.status}`;
  if (statuses.at(-1)?.status !== job.status)
    yield `is ${job.status}, its last event says ${statuses.at(-1)?.status}`;
  let attempt = 0;
  for (const [i, { status, attempt: number }] of statuses.entries()) {
    const before = statuses[i - 1]?.status;
    if (before && !NEXT[before]?.includes(status)) yield `went from ${before} to ${status}`;
    if (status in ASKED && ASKED[status] !== asked) yield `is ${status}, and was asked to ${asked}`;
    const begins = number === attempt + 1 && ['running', 'stopping'].includes(status);
    if (begins ? before === 'pausing' : number !== attempt || (before === 'queued' && status === 'running'))
      yield `${status} of attempt ${number} came after ${before} of ${attempt}`;
    attempt = number;
  }
  if (attempt !== job.attempt) yield `${attempt} attempts in its events, ${job.attempt} in itself`;
  let at = { attempt: 0, stage: -1 };
  for (const { type, data } of events) {
    if (type !== 'stage') continue;
    const stage = STAGES.indexOf(data.stage);
    if (data.attempt < at.attempt || (data.attempt === at.attempt && stage < at.stage))
      yield `stage ${data.stage} of attempt ${data.attempt} after ${STAGES[at.stage]} of ${at.attempt}`;
    at = { attempt: data.attempt, stage };
  }
  const times = events.map(({ created_at }) => Date.parse(created_at));
  if (times.some((time, i) => i > 0 && time < times[i - 1])) yield 'an event is older than the one before it';
  const [created, started, finished] = [job.created_at, job.started_at, job.finished_at].map((time) =>
    Date.parse(time),
  );
  if (!(created <= finished && (job.attempt === 0 || (created <= started && started <= finished))))
    yield `times ${job.created_at}, ${job.started_at}, ${job.finished_at}`;
}

/** Every format is what its ETag says. Returns the hash of the weights. */
async function checkDownloads(model, id) {
  let weights;
  for (const format of FORMATS) {
    const answer = await model.ask('GET', `/v1/models/${id}/download?format=${format}`);
    const hash = answer && sha256(answer.bytes);
    const said = answer?.headers.get('etag')?.replaceAll('"', '');
    if (answer?.status !== 200 || hash !== said)
      model.violate(`${id} as ${format}: ${answer?.status}, ETag ${said}, bytes ${hash}`);
    if (format === 'safetensors') weights = hash;
  }
  return weights;
}

/**
 * A helper may store an object after its job has ended: the folder of a job's pieces is emptied then, and once more ten minutes
 * later. By now there are no helpers, and the ten minutes are made to have passed.
 */
const passTime = (stack) => sql(stack, `UPDATE garbage SET due = now() WHERE key LIKE 'jobs/%/pieces/'`);

/**
 * Rows outlive the faults by as much as the service waits before it tries again: what the store refused to delete is tried a
 * minute later (packages/db, garbage.ts), by a collector that looks every ten seconds.
 */
const AGAIN = 90_000;

/** Rows that stand for work in progress: there is none. */
async function checkTables(stack, model) {
  const none = {
    'outbox rows not dispatched': `SELECT id FROM outbox WHERE dispatched_at IS NULL`,
    'leases held': `SELECT id FROM jobs WHERE lease_token IS NOT NULL`,
    'objects given up and not deleted': `SELECT key FROM garbage WHERE due < now() + interval '1 hour'`,
    'checkpoints of jobs that ended': `SELECT job_id FROM checkpoints`,
    'pieces of jobs that ended': `SELECT job_id, id FROM pieces`,
    'requests in flight': `SELECT key FROM idempotency_keys WHERE status IS NULL`,
  };
  for (const [what, text] of Object.entries(none)) {
    let rows = await sql(stack, text);
    for (const late = deadline(AGAIN); rows.length > 0 && !late(); await sleep(300))
      rows = await sql(stack, text);
    if (rows.length) model.violate(`${what}: ${JSON.stringify(rows.slice(0, 5))}`);
  }
}

/** Every object is somebody's, and everybody has all of his. */
async function checkStorage(stack, model) {
  const owned = new Set();
  const uploads = new Set();
  for (const { pack, upload_key: upload } of await sql(stack, 'SELECT pack, upload_key FROM datasets')) {
    uploads.add(upload);
    if (pack) for (const { key } of [pack.images, pack.index, ...Object.values(pack.packed)]) owned.add(key);
  }
  for (const { key } of await sql(stack, 'SELECT key FROM supernets WHERE key IS NOT NULL')) owned.add(key);
  for (const { storage } of await sql(stack, 'SELECT storage FROM models'))
    for (const { key } of Object.values(storage)) owned.add(key);
  const store = await openStore({ dataDir: stack.folder, s3: stack.bucket });
  const found = new Set();
  for await (const { key } of store.list('')) found.add(key);
  await store.close();
  for (const key of found)
    if (!owned.has(key) && !uploads.has(key)) model.violate(`${key} belongs to nobody`);
  for (const key of owned) if (!found.has(key)) model.violate(`${key} is not in the store`);
}

/** After the end: workers have left nothing on their disks. */
export function checkScratch(stack, model) {
  for (const folder of stack.scratch) {
    let names = [];
    try {
      names = readdirSync(folder);
    } catch {
      // Never used.
    }
    if (names.length)
      model.violate(`${names.length} folders left in the scratch of a worker that was asked to end`);
  }
}
