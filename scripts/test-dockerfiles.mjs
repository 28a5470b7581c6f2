// Runs the steps of Dockerfile and Dockerfile.worker that need no Docker, in scratch copies of what they would copy, and
// starts what they would start: node scripts/test-dockerfiles.mjs [--check] [Dockerfile ...]
//   --check: only reads them: sources of every COPY are there, every step is known, nothing runs as root
// Not run, and said so: base images, and steps that change the image's system (useradd, install).
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** Longest time of one step, ms. */
const STEP_LIMIT = 15 * 60_000;
/** What happens in the image's system rather than in the folder of the application. */
const OF_SYSTEM = /^(useradd|install|apt-get|ldconfig)\b/;
/** What a step says that failed for want of a network. */
const BLOCKED = /cannot be reached|answers \d{3} |ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ECONNREFUSED|network/i;

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const { values: options, positionals } = parseArgs({
  options: { check: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const files = positionals.length > 0 ? positionals : ['Dockerfile', 'Dockerfile.worker'];

/** [{ word, rest, line }] with continued lines joined. */
function instructions(file) {
  const lines = readFileSync(join(root, file), 'utf8').split('\n');
  const found = [];
  let text = '';
  lines.forEach((line, i) => {
    if (text === '' && (line.trim() === '' || line.startsWith('#'))) return;
    text += line.replace(/\\$/, '');
    if (line.endsWith('\\')) return;
    const [, word, rest] = /^(\w+)\s+(.*)$/s.exec(text) ?? [];
    if (!word) throw new Error(`${file}:${i + 1}: not an instruction: ${text}`);
    found.push({ word, rest: rest.trim(), line: i + 1 });
    text = '';
  });
  return found;
}

/** Stages in order: { base, name, steps }, with build arguments at their defaults. */
function stages(file) {
  const all = [];
  const global = {};
  const fill = (text, values) => text.replace(/\$\{?(\w+)\}?/g, (whole, name) => values[name] ?? whole);
  for (const step of instructions(file)) {
    const { word, rest } = step;
    const stage = all.at(-1);
    if (word === 'ARG') {
      const [name, value] = rest.split('=');
      (stage?.values ?? global)[name] = value ?? global[name];
    } else if (word === 'FROM') {
      const [base, , name] = fill(rest, global).split(/\s+/);
      all.push({ base, name, values: {}, steps: [] });
    } else stage.steps.push({ ...step, rest: word === 'RUN' ? rest : fill(rest, stage.values) });
  }
  return all;
}

/** What COPY . would copy: what git knows or does not ignore, less .dockerignore (whose patterns git ignores as well). */
function context() {
  const list = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  return list.split('\0').filter((path) => path && existsSync(join(root, path)));
}

class Failed extends Error {}

/** Reads a file as a whole; returns what is wrong with it. */
function check(file) {
  const problems = [];
  const known = ['ARG', 'CMD', 'COPY', 'ENV', 'EXPOSE', 'FROM', 'RUN', 'USER', 'VOLUME', 'WORKDIR'];
  const all = stages(file);
  for (const { steps } of all)
    for (const { word, rest, line } of steps) {
      if (!known.includes(word)) problems.push(`${file}:${line}: ${word} is not known here`);
      const from = /^--from=(\S+)/.exec(rest)?.[1];
      if (from && !all.some(({ name }) => name === from)) problems.push(`${file}:${line}: no stage ${from}`);
      if (word === 'COPY' && !from)
        for (const source of rest.split(/\s+/).slice(0, -1))
          if (!existsSync(join(root, source))) problems.push(`${file}:${line}: there is no ${source}`);
    }
  const last = all.at(-1).steps;
  const user = last.findLast(({ word }) => word === 'USER')?.rest;
  if (!user || user === 'root' || user === '0') problems.push(`${file}: it runs as root`);
  if (last.at(-1).word !== 'CMD') problems.push(`${file}: it starts nothing`);
  if (all.length < 2) problems.push(`${file}: what builds it stays in it`);
  return problems;
}

/** Builds the tree of every stage below `folder`; returns the last one. */
async function build(file, folder) {
  const done = new Map();
  let stage;
  for (const { base, name, values, steps } of stages(file)) {
    console.log(`${file}: FROM ${base} (not run)`);
    stage = { root: join(folder, name ?? 'last'), cwd: '/', env: { ...values } };
    mkdirSync(stage.root);
    if (name) done.set(name, stage);
    for (const step of steps) await take(file, step, stage, done);
  }
  return stage;
}

async function take(file, { word, rest, line }, stage, done) {
  const inside = (path) => join(stage.root, posix.resolve(stage.cwd, path));
  switch (word) {
    case 'WORKDIR':
      stage.cwd = rest;
      return mkdirSync(inside('.'), { recursive: true });
    case 'ENV':
      for (const [, name, value] of rest.matchAll(/(\w+)=(\S+)/g)) stage.env[name] = value;
      return;
    case 'CMD':
      stage.command = JSON.parse(rest);
      return;
    case 'COPY':
      return copy(rest, stage, done, inside);
    case 'RUN':
      return run(`${file}:${line}`, rest, stage, inside);
  }
}

function copy(rest, stage, done, inside) {
  const from = /^--from=(\S+)\s+/.exec(rest);
  const paths = rest.slice(from?.[0].length ?? 0).split(/\s+/);
  const to = paths.pop();
  if (!from) {
    for (const path of context()) cpSync(join(root, path), join(inside(to), path), { recursive: true });
    return;
  }
  for (const path of paths) {
    // Of the base image: this process's own Node takes its place.
    if (path.startsWith('/usr/')) continue;
    const source = join(done.get(from[1]).root, path);
    const folder = to.endsWith('/') ? join(inside(to), basename(path)) : inside(to);
    if (!existsSync(source)) {
      if (done.get(from[1]).skipped) continue;
      throw new Failed(`COPY ${path}: the stage ${from[1]} has none`);
    }
    cpSync(source, folder, { recursive: true, verbatimSymlinks: true });
  }
}

async function run(where, command, stage, inside) {
  const parts = command.split('&&').map((part) => part.trim());
  if (parts.every((part) => OF_SYSTEM.test(part)))
    return console.log(`${where}: skipped, it needs the image: ${command}`);
  console.log(`${where}: ${command}`);
  const began = performance.now();
  const { code, said } = await bounded('bash', ['-ec', command], {
    cwd: inside('.'),
    env: { ...process.env, ...stage.env },
  });
  const seconds = ((performance.now() - began) / 1000).toFixed(0);
  if (code === 0) return console.log(`  done in ${seconds} s`);
  if (!BLOCKED.test(said))
    throw new Failed(`${where} failed after ${seconds} s (${code}):\n${said.slice(-3000)}`);
  stage.skipped = true;
  console.log(
    `  SKIPPED: what it downloads cannot be had here:\n${said.trim().split('\n').slice(-3).join('\n')}`,
  );
}

/** Runs to the end or the limit, in a process group of its own; `until` ends it when its output matches. */
function bounded(program, args, { until, ...how }, limit = STEP_LIMIT) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { ...how, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    const end = (signal) => {
      try {
        process.kill(-child.pid, signal);
      } catch {
        // It has ended.
      }
    };
    const timer = setTimeout(() => end('SIGKILL'), limit);
    const hear = (text) => {
      said += text;
      if (until?.test(said)) end('SIGTERM');
    };
    child.stdout.setEncoding('utf8').on('data', hear);
    child.stderr.setEncoding('utf8').on('data', hear);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code: code ?? signal, said });
    });
  });
}

/** Starts the command of the last stage as the image would, on a database of its own, until it says that it works. */
async function start(file, stage, folder) {
  const { startEmbeddedPostgres } = await import('../packages/db/lib/index.js');
  const postgres = await startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), ephemeral: true });
  try {
    const [program, ...args] = stage.command;
    const native = existsSync(join(stage.root, stage.cwd, '.cache/tensorflow'));
    const env = {
      ...stage.env,
      PATH: process.env.PATH,
      DATABASE_URL: postgres.url,
      NTAA_DATA_DIR: join(folder, 'data'),
      PORT: '0',
      HOST: '127.0.0.1',
      NTAA_API_KEY: 'a-key-for-this-test-alone',
      // There may be no GPU here; the same libraries on the CPU.
      ...(stage.env.NTAA_ENGINE && { NTAA_ENGINE: native ? 'tensorflow' : 'wasm' }),
    };
    mkdirSync(env.NTAA_DATA_DIR);
    const ready = /worker ready|listening/i;
    const cwd = join(stage.root, stage.cwd);
    const { said } = await bounded(program, args, { cwd, env, until: ready }, 120_000);
    if (!ready.test(said))
      throw new Failed(`${file}: ${stage.command.join(' ')} does not start:\n${said.slice(-3000)}`);
    const engine = /"engine":\{[^}]*\}/.exec(said)?.[0];
    console.log(`${file}: ${stage.command.join(' ')} starts${engine ? `, ${engine}` : ''}`);
  } finally {
    await postgres.stop();
  }
}

const problems = files.flatMap(check);
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log(`${files.join(', ')}: well formed`);
if (options.check) process.exit(0);

execFileSync(process.execPath, [join(root, 'scripts/build.mjs')], { stdio: 'inherit' });
for (const file of files) {
  const folder = mkdtempSync(join(tmpdir(), 'ntaa-image-'));
  try {
    const stage = await build(file, folder);
    const { stdout } = spawnSync('du', ['-sh', join(stage.root, stage.cwd)], { encoding: 'utf8' });
    console.log(`${file}: ${stdout.split('\t')[0]} beside the base image`);
    await start(file, stage, folder);
  } catch (error) {
    if (!(error instanceof Failed)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
