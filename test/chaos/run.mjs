/**
 * The fault harness: `npm run chaos -- --seed N --faults M [--jobs J]`. Starts the service on real servers, submits small
 * jobs, has a planned list of things go wrong, and then checks that nothing was lost or done twice. See docs/chaos.md.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { beSlow } from './clock.mjs';
import { strike } from './faults.mjs';
import { checkAll, checkScratch, figuresOf, weightsOf } from './invariants.mjs';
import { Model } from './model.mjs';
import { pictures } from './pictures.mjs';
import { makePlan, needOf } from './plan.mjs';
import { makeRecipes } from './recipes.mjs';
import { requireServers, startStack } from './stack.mjs';

// As the service does: Node 20 is supported here.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true';

/** Faults that may be in the air at a time. */
const AT_ONCE = 3;
/**
 * Jobs in play while faults are: of those asked for, and of those beyond, which only give faults something to strike. Fewer
 * than there are workers, so that some are free to help.
 */
const IN_PLAY = { asked: 3, beyond: 1 };
/** One as it is by default, which has no room for a helper on a machine of two cores; the others help each other there. */
const THREADS = ['2', '1', '1', '1'];
/** All must have ended so long after the last fault, ms: the longest pause before another attempt is two minutes. */
const END_LIMIT = 240_000;
/** Uninterrupted jobs, all at once, ms. */
const REFERENCE_LIMIT = 240_000;

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '0' },
    faults: { type: 'string', default: '20' },
    jobs: { type: 'string', default: '6' },
    only: { type: 'string', multiple: true },
    slow: { type: 'string', default: '1' },
    keep: { type: 'boolean', default: false },
  },
});
const [seed, faults, jobs] = [values.seed, values.faults, values.jobs].map(Number);

beSlow(Number(values.slow));

requireServers();
const began = performance.now();
const seconds = () => Number(((performance.now() - began) / 1000).toFixed(1));
const say = (text) => console.log(`${String(seconds()).padStart(6)} s  ${text}`);

const plan = makePlan({ seed, faults, only: values.only });
const folder = mkdtempSync(join(tmpdir(), 'ntaa-chaos-'));
const stack = await startStack(folder, {
  workers: THREADS.length,
  worker: (i) => ({ NTAA_THREADS: THREADS[i] }),
});
let model = new Model(stack, []);
let recipes = [];
const flying = new Set();
/** Recipes whose jobs faults wait for that are in the air. */
const wanted = [];
const fired = {};
let feeding = false;
let figures = {};
for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => process.exit(130));
try {
  say(
    `seed ${seed}: ${faults} faults, at least ${jobs} jobs; two API servers and ${THREADS.length} workers are up`,
  );
  const needs = new Set(plan.map(needOf));
  recipes = await makeRecipes({ seed, jobs, needs, upload });
  model = new Model(
    stack,
    recipes.map(({ request }) => request),
  );
  const references = await uninterrupted();
  say(`${references.length} uninterrupted jobs ran for comparison`);
  await chaos();
  while (model.jobs.size < references.length + jobs) await model.submit();
  say('the faults are over; waiting for all jobs to end');
  await Promise.all([...stack.parts.api, ...stack.parts.worker].map((part) => part.usable()));
  await model.allEnded(END_LIMIT);
  figures = await checkAll(stack, model, references);
  report();
} catch (error) {
  model.violate(`the harness stumbled: ${error.stack}`);
} finally {
  const ends = await stack.stop();
  for (const [name, end] of Object.entries(ends))
    if (end !== 0) model.violate(`asked to end, ${name} ended with ${end}`);
  checkScratch(stack, model);
}
const { violations } = model;
const clean = violations.length === 0;
if (clean && !values.keep) rmSync(folder, { recursive: true, force: true });
else say(`logs are kept in ${stack.logs}`);
say(clean ? 'no violation' : `${violations.length} violations`);
console.log(JSON.stringify({ seed, faults, jobs: model.jobs.size, ...figures, replays: model.replays, fired, violations, seconds: seconds() })); // prettier-ignore
process.exit(clean ? 0 : 1);

async function upload(set) {
  const form = new FormData();
  form.set('file', new Blob([await pictures(set)]), 'rows.zip');
  const headers = { authorization: `Bearer ${stack.key}` };
  const response = await fetch(`${stack.urls[0]}/v1/datasets`, { method: 'POST', headers, body: form });
  const { id } = await response.json();
  for (;;) {
    const dataset = await model.get(`/v1/datasets/${id}`);
    if (dataset.status === 'ready') return id;
    if (dataset.status === 'invalid') throw new Error(JSON.stringify(dataset.report));
    await sleep(200);
  }
}

/** One job of every recipe, before anything goes wrong. Resolves with `{ weights, figures }` of each. */
async function uninterrupted() {
  const made = [];
  const references = await Promise.all(model.requests.map((_, recipe) => model.submit(recipe)));
  await model.allEnded(REFERENCE_LIMIT);
  for (const { last, id } of references) {
    if (last.status !== 'succeeded' || last.attempt !== 1) throw new Error(`${id} did not run undisturbed`);
    made.push({ weights: await weightsOf(model, last.result), figures: figuresOf(last.result) });
  }
  return made;
}

/** Has the plan happen, some faults overlapping, and jobs there for it to happen to. */
async function chaos() {
  const feed = setInterval(() => void keepBusy(), 500);
  for (const [i, fault] of plan.entries()) {
    await sleep(fault.pauseMs);
    while (flying.size >= AT_ONCE) await Promise.race(flying);
    const title = `fault ${i + 1} ${fault.kind}`;
    const need = needOf(fault);
    if (need) wanted.push(need);
    const flight = strike(fault.kind, { stack, model, strike: fault.strike }).then(
      () => {
        fired[fault.kind] = (fired[fault.kind] ?? 0) + 1;
        say(title);
      },
      (error) => model.violate(`${title} never fired: ${error.message}`),
    );
    flying.add(flight);
    void flight.then(() => {
      flying.delete(flight);
      if (need) wanted.splice(wanted.indexOf(need), 1);
    });
  }
  await Promise.all(flying);
  clearInterval(feed);
}

async function keepBusy() {
  if (feeding) return;
  feeding = true;
  const open = await model.unfinished();
  const enough = model.jobs.size >= model.requests.length + jobs;
  const name = wanted[model.jobs.size % wanted.length];
  const aimedAt = open.filter(({ recipe }) => wanted.includes(recipes[recipe].name)).length;
  // Who aims at helpers wants some such jobs, and little else that runs.
  const most = name === undefined ? IN_PLAY[enough ? 'beyond' : 'asked'] : aimedAt < 2 ? IN_PLAY.asked : 2;
  if (open.length < most) await model.submit(name && recipes.findIndex((recipe) => recipe.name === name));
  feeding = false;
}

function report() {
  const width = Math.max(...Object.keys(fired).map((kind) => kind.length));
  const planned = (kind) => plan.filter((fault) => fault.kind === kind).length;
  console.log(`\n${'fault'.padEnd(width)}  planned  fired`);
  for (const kind of [...new Set(plan.map((fault) => fault.kind))].sort())
    console.log(
      `${kind.padEnd(width)}  ${String(planned(kind)).padStart(7)}  ${String(fired[kind] ?? 0).padStart(5)}`,
    );
  console.log();
  for (const [name, value] of Object.entries(figures)) console.log(`${name.padEnd(width)}  ${value}`);
}
