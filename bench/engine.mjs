// Speed and memory of the engine beside PyTorch doing the same work on the same cores. Every measurement is a process
// of its own (peers/ntaa.mjs, peers/torch_peer.py), warm before the first round; in each round they take turns.
// npm run bench -- engine [--rounds 5] [--seconds 1] [--only PART OF A ROW'S NAME] [--cores 0,1]
//   --engine NAME, once or more: ours; by default wasm and, where it is set up, tensorflow beside it. The first one counts
//   --verify: instead, compares logits, updates and evaluations of both sides on the same weights
// PyTorch is looked for in NTAA_BENCH_PYTHON, python3, /usr/bin/python3. The last line is JSON.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath as here } from 'node:url';
import { parseArgs } from 'node:util';
import { exact, forTorch, rows } from './peers/tasks.mjs';

const libtensorflow = existsSync(new URL('../.cache/tensorflow', import.meta.url));
const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    cores: { type: 'string', default: cpus().length > 1 ? '0,1' : '0' },
    engine: { type: 'string', multiple: true, default: libtensorflow ? ['wasm', 'tensorflow'] : ['wasm'] },
    verify: { type: 'boolean', default: false },
  },
});
const cores = options.cores.split(',');
const has = (command, ...args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;
const taskset = has('taskset', '-c', cores[0], 'true');
const pythons = [process.env.NTAA_BENCH_PYTHON, 'python3', '/usr/bin/python3'].filter(Boolean);
process.env.PYTHONDONTWRITEBYTECODE = '1';
const python = pythons.find((command) => has(command, '-c', 'import torch'));
const folder = mkdtempSync(join(tmpdir(), 'ntaa-bench-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130));

const [engine, ...otherEngines] = options.engine;
const settings = { engine, seconds: Number(options.seconds), warmup: 2, folder };
const oursAs = (task) => ({
  command: [process.execPath, here(new URL('./peers/ntaa.mjs', import.meta.url))],
  task: { ...task, ...settings },
});
const torchAs = (task, layout) => ({
  command: [python, here(new URL('./peers/torch_peer.py', import.meta.url)), layout],
  task: { ...forTorch(task), ...settings },
});

/**
 * Starts a process, which reads its task as a line of JSON, says {ready: version} when it is warm, and from then on
 * answers each line with a round: {units of work, wall and cpu in seconds, rss (the peak so far) in bytes}.
 */
async function start({ command, task }) {
  const pinned = taskset ? ['taskset', '-c', cores.slice(0, task.threads).join(), ...command] : command;
  const child = spawn(pinned[0], pinned.slice(1), {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, OMP_NUM_THREADS: String(task.threads) },
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async (line) => {
    child.stdin.write(`${line}\n`);
    const { value, done } = await lines.next();
    if (done) throw new Error(`${command.join(' ')} ended early (exit code ${await ended})`);
    return JSON.parse(value);
  };
  const { ready } = await ask(JSON.stringify(task));
  const stop = () => (child.stdin.end(), ended);
  return { ready, round: () => ask('go'), stop };
}

const tidy = (value, digits = 3) => Number(value.toFixed(digits));
function summary(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const median = (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
  return { median: tidy(median), min: tidy(sorted[0]), max: tidy(sorted.at(-1)) };
}
const shown = ({ median, min, max }, digits) =>
  `${median.toFixed(digits)} (${min.toFixed(digits)} - ${max.toFixed(digits)})`;

/** Measures one row: starts its processes one after the other, then lets them take turns. */
async function measure({ task, ours = {}, also = [], aside = [], unitImages }) {
  const entries = [{ name: 'ours', ...ours }, ...also.map((way) => ({ ...way, aside: true }))].map(
    ({ name, work, ...rest }) => ({ name, ...rest, ...oursAs({ ...task, ...(work && { work }) }) }),
  );
  for (const engine of otherEngines) {
    const { command, task: own } = oursAs({ ...task, ...(ours.work && { work: ours.work }) });
    entries.push({
      name: `ours on ${engine}`,
      compared: true,
      aside: true,
      command,
      task: { ...own, engine },
    });
  }
  if (python)
    for (const layout of ['channels_last', 'contiguous'])
      entries.push({ name: `PyTorch ${layout}`, layout, ...torchAs(task, layout) });
  if (python)
    for (const { work, ...rest } of aside)
      entries.push({ ...rest, ...torchAs({ ...task, work }, rest.layout) });
  for (const entry of entries) Object.assign(entry, await start(entry), { results: [] });
  for (let round = 0; round < Number(options.rounds); round++)
    for (let turn = 0; turn < entries.length; turn++) {
      const entry = entries[(round + turn) % entries.length];
      entry.results.push(await entry.round());
    }
  for (const entry of entries) await entry.stop();
  const images = unitImages ?? task.batch * task.steps.length;
  return entries.map(({ name, layout, aside, compared, ready, results }) => ({
    ...{ name, layout, aside, compared, version: ready },
    images_s: summary(results.map(({ units, wall }) => (units * images) / wall)),
    cpu_ms: summary(results.map(({ units, cpu }) => (1000 * cpu) / (units * images))),
    rss_mb: Math.round(Math.max(...results.map(({ rss }) => rss)) / 2 ** 20),
    rates: results.map(({ units, wall }) => tidy((units * images) / wall)),
  }));
}

/** Adds ours / it to every peer, and marks PyTorch's layout that was faster: the one that counts. */
function compare([ours, ...others]) {
  for (const peer of others.filter(({ layout, compared }) => layout || compared))
    peer.ratios = {
      speed: tidy(ours.images_s.median / peer.images_s.median),
      inRounds: summary(ours.rates.map((rate, i) => rate / peer.rates[i])),
      cpu: tidy(peer.cpu_ms.median / ours.cpu_ms.median),
      memory: tidy(peer.rss_mb / ours.rss_mb),
    };
  const layouts = others.filter(({ layout, aside }) => layout && !aside);
  const [counts] = layouts.sort((a, b) => b.images_s.median - a.images_s.median);
  if (counts) counts.counts = true;
  return counts?.ratios;
}

const line = (name, ...cells) =>
  console.log(name.padEnd(38) + cells.map((cell, i) => cell.padStart([24, 8, 9, 25, 8, 9][i])).join(''));

function report({ name, images_s, cpu_ms, rss_mb, ratios, counts }) {
  const compared = ratios
    ? [
        shown({ ...ratios.inRounds, median: ratios.speed }, 2),
        ratios.cpu.toFixed(2),
        ratios.memory.toFixed(2),
      ]
    : [];
  line(
    `${counts ? '*' : ' '} ${name}`,
    shown(images_s, 1),
    cpu_ms.median.toFixed(2),
    `${rss_mb}`,
    ...compared,
  );
}

async function bench() {
  const said = { ratios: {}, rows: [] };
  line('', 'images/s', 'CPU ms', 'RSS MB', 'ours / it: images/s', 'CPU', 'memory');
  for (const row of rows) {
    if (!row.name.includes(options.only)) continue;
    console.log(row.name);
    if (row.task.threads > cores.length) {
      console.log('  left out: it needs two cores (--cores)');
      continue;
    }
    const measured = await measure(row);
    const ratios = compare(measured);
    measured.forEach(report);
    said.ratios[row.name] = ratios?.speed ?? null;
    if (row.memory) said.ratios[`memory: ${row.name}`] = ratios?.memory ?? null;
    said.rows.push({ name: row.name, measured });
  }
  console.log(`
Medians (min - max) of ${options.rounds} rounds; wall time, CPU milliseconds an image, peak memory of the process.
* PyTorch's faster layout, the one that counts. Above 1 ours is better, in memory too.
"reference" is a search space of one architecture, trained as jobs train it.`);
  if (!python)
    console.log(`PyTorch is missing: no torch in ${pythons.join(', ')}. There is nothing to compare with.`);
  if (!libtensorflow) console.log('libtensorflow is missing: npm run setup:tensorflow adds it to the table.');
  if (!taskset) console.log('taskset is missing: processes were not bound to cores.');
  const machine = { node: process.version, cpu: cpus()[0].model, cores, rounds: Number(options.rounds) };
  console.log(JSON.stringify({ bench: 'engine', ...machine, ...said }));
}

/** Both sides compute the same from the same weights: logits, updates of the weights, evaluations. */
async function verify() {
  if (!python) throw new Error(`PyTorch is missing (no torch in ${pythons.join(', ')})`);
  for (const [name, task] of exact) {
    const [results, told] = [join(folder, 'results.safetensors'), join(folder, 'task.json')];
    await (await start(oursAs({ ...task, results }))).stop();
    writeFileSync(told, JSON.stringify(forTorch(task)));
    const { status, stdout } = spawnSync(
      python,
      [here(new URL('./peers/torch_verify.py', import.meta.url)), told, results],
      {
        ...{ encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
      },
    );
    console.log(
      `${name}: ${status === 0 ? 'equal' : 'NOT EQUAL'}, largest relative differences ${stdout.trim()}`,
    );
    if (status !== 0) process.exitCode = 1;
  }
}

await (options.verify ? verify() : bench());
