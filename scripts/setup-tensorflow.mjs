// Sets up the native engine `tensorflow`: libtensorflow from the official wheel of a Python package index, and beside it
// the addon of @tensorflow/tfjs-node, compiled here. Both go to .cache/tensorflow, which `npm ci` leaves alone.
//   npm run setup:tensorflow            once; again does nothing, after an interruption goes on where it stopped
//     -- --wheel FILE     a wheel that is here already, for machines without network (any Python version's will do)
//     -- --headers DIR    where node_api.h is; default: beside Node, else the npm package node-api-headers
//     -- --gpu            the build that uses NVIDIA GPUs; CUDA and cuDNN themselves have to be there
//     -- --version X.Y.Z  another TensorFlow
//     -- --remove         takes it away again
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { download, findWheel, sha256Of, unpack } from './tensorflow-wheel.mjs';

/** Tested: 2.12.1, 2.16.2 and 2.21.0. Older wheels have no libtensorflow_cc. */
const VERSION = '2.21.0';
const NODE_API_HEADERS = {
  name: 'node-api-headers@1.9.0',
  integrity:
    'sha512-2oNILP4jXwRB4ywnYKjVk1YyJ96n2D4EOVJO6S3oYZ5PtbJrw3Yt9TpAuX3nBLMuzn74rnfGQrv13pS9vC+YiA==',
};
const LIBRARIES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'];
const ADDON = 'tfjs_binding.node';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const home = join(root, '.cache/tensorflow');
const scratch = `${home}.part`;
const record = join(home, 'setup.json');

let options;
try {
  options = parseArgs({
    options: {
      version: { type: 'string', default: VERSION },
      wheel: { type: 'string' },
      headers: { type: 'string' },
      gpu: { type: 'boolean', default: false },
      remove: { type: 'boolean', default: false },
    },
  }).values;
  if (options.remove) remove();
  else await setUp();
} catch (error) {
  console.error(`setup:tensorflow: ${error.message}`);
  process.exit(1);
}

function remove() {
  const there = [home, scratch].filter((folder) => existsSync(folder));
  for (const folder of there) rmSync(folder, { recursive: true });
  console.log(there.length > 0 ? `removed ${there.join(' and ')}` : 'nothing to remove');
}

async function setUp() {
  const platform = supportedPlatform();
  const sources = bindingSources();
  const given = options.wheel && resolve(options.wheel);
  if (given && !existsSync(given)) throw new Error(`there is no file ${given}`);
  if (given && !given.endsWith(`_${platform.machine}.whl`))
    throw new Error(`${basename(given)} is not a wheel for ${platform.machine} (its name does not say so)`);
  const before = existsSync(record) ? JSON.parse(readFileSync(record, 'utf8')) : undefined;
  const same = given
    ? before?.wheel === basename(given)
    : before?.version === options.version && before.binding === sources.version && before.gpu === options.gpu;
  if (same && check() === undefined) {
    console.log(`already set up: TensorFlow ${before.version} in ${home}`);
    return;
  }

  const compiler = findCompiler();
  mkdirSync(scratch, { recursive: true });
  const wheel = given ? { file: given, sha256: await sha256Of(given) } : await fetchWheel(platform);
  console.log(`${basename(wheel.file)}: sha256 ${wheel.sha256}${given ? '' : ', as the index says'}`);
  const stage = join(scratch, 'stage');
  rmSync(stage, { recursive: true, force: true });
  console.log('unpacking libtensorflow and its C headers');
  await unpack(wheel.file, stage, LIBRARIES);

  const headers = findHeaders();
  console.log(`compiling the addon of ${sources.name} ${sources.version} with ${compiler}`);
  compile(compiler, sources.folder, stage, headers);
  rmSync(join(stage, 'include'), { recursive: true });
  const version = /-(\d[^-]*)-/.exec(basename(wheel.file))?.[1] ?? 'unknown';
  const facts = {
    version,
    wheel: basename(wheel.file),
    sha256: wheel.sha256,
    binding: sources.version,
    gpu: platform.machine === 'x86_64' && /^tensorflow-\d/.test(basename(wheel.file)),
  };
  writeFileSync(join(stage, 'setup.json'), `${JSON.stringify(facts, null, 2)}\n`);
  // It is tried in its place; the one before comes back if it does not work.
  const old = join(scratch, 'old');
  rmSync(old, { recursive: true, force: true });
  if (existsSync(home)) renameSync(home, old);
  renameSync(stage, home);
  const problem = check();
  if (problem !== undefined) {
    rmSync(home, { recursive: true });
    if (existsSync(old)) renameSync(old, home);
    throw new Error(
      `TensorFlow ${version} was built but does not work here, and was removed again:\n${problem}`,
    );
  }
  rmSync(scratch, { recursive: true });
  console.log(
    `done: ${home}\nNTAA_ENGINE=tensorflow${facts.gpu ? '-gpu' : ''} uses it. ` +
      'Undo: npm run setup:tensorflow -- --remove',
  );
}

/** The platform's tag in wheel names, and the newest C library that wheels may ask for. */
function supportedPlatform() {
  const machine = { x64: 'x86_64', arm64: 'aarch64' }[process.arch];
  const glibc = process.report.getReport().header.glibcVersionRuntime;
  if (process.platform !== 'linux' || !machine || !glibc)
    throw new Error(
      `TensorFlow has wheels with libtensorflow for Linux with glibc on x64 and arm64, not for ` +
        `${process.platform} ${process.arch}${process.platform === 'linux' && !glibc ? ' without glibc' : ''}`,
    );
  return { machine, glibc };
}

/** The addon's C++ sources: the CPU and the GPU package bring the same ones. */
function bindingSources() {
  const require = createRequire(join(root, 'packages/engine/package.json'));
  for (const name of ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'])
    try {
      const manifest = require.resolve(`${name}/package.json`);
      return { name, folder: join(dirname(manifest), 'binding'), version: require(manifest).version };
    } catch {
      continue;
    }
  throw new Error('@tensorflow/tfjs-node-gpu is not installed: run "npm ci" without --omit=optional');
}

function findCompiler() {
  const candidates = [process.env.CXX, 'c++', 'g++', 'clang++'].filter(Boolean);
  const found = candidates.find((name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0);
  if (found) return found;
  throw new Error(
    `no C++ compiler (tried ${candidates.join(', ')}): install one, e.g. with "apt-get install g++", or name it in CXX`,
  );
}

async function fetchWheel({ machine, glibc }) {
  // Without CUDA the smaller one, where there are two.
  const project = machine === 'x86_64' && !options.gpu ? 'tensorflow-cpu' : 'tensorflow';
  const found = await findWheel({ project, version: options.version, machine, glibc });
  const file = join(scratch, found.name);
  await download(found, file);
  return { file, sha256: found.sha256 };
}

function findHeaders() {
  const beside = join(dirname(process.execPath), '../include/node');
  const has = (folder) => existsSync(join(folder, 'node_api.h'));
  if (options.headers !== undefined && !has(options.headers))
    throw new Error(`there is no node_api.h in ${resolve(options.headers)}`);
  return options.headers ?? (has(beside) ? beside : fetchHeaders());
}

/** The headers that Node's installation lacks (npm's package `node`, for one), from npm's registry. */
function fetchHeaders() {
  const { name, integrity } = NODE_API_HEADERS;
  const folder = join(scratch, 'headers');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  console.log(`fetching ${name}`);
  let packed;
  try {
    const output = execFileSync('npm', ['pack', '--json', '--silent', name], {
      cwd: folder,
      encoding: 'utf8',
    });
    packed = JSON.parse(output).at(-1);
  } catch (error) {
    throw new Error(
      `node_api.h is not beside Node, and npm could not fetch ${name}: name its folder with --headers`,
      {
        cause: error,
      },
    );
  }
  if (packed.integrity !== integrity)
    throw new Error(`${name} is not the one that was tested: ${packed.integrity}`);
  execFileSync('tar', ['xzf', packed.filename, '--strip-components=1'], { cwd: folder });
  return join(folder, 'include');
}

function compile(compiler, sources, stage, headers) {
  const args = [
    ...[
      '-shared',
      '-fPIC',
      '-O2',
      '-std=c++17',
      '-DNAPI_VERSION=8',
      '-I',
      headers,
      '-I',
      join(stage, 'include'),
    ],
    ...['tfjs_backend.cc', 'tfjs_binding.cc'].map((file) => join(sources, file)),
    ...[
      '-o',
      join(stage, ADDON),
      '-L',
      stage,
      ...LIBRARIES.map((name) => `-l:${name}`),
      '-Wl,-rpath,$ORIGIN',
    ],
  ];
  const { status, stderr, error } = spawnSync(compiler, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the addon does not compile:\n${error?.message ?? stderr}`);
}

/** Starts the engine in a process of its own, where it compares its kernels with float64; what is wrong, or undefined. */
function check() {
  const engine = join(root, 'packages/engine/lib/index.js');
  const code = `import { initEngine, tf } from ${JSON.stringify(engine)};
const start = performance.now();
const { name } = await initEngine('tensorflow');
console.log(name + ' computes as it should; started in ' + Math.round(performance.now() - start) + ' ms');`;
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', code],
    {
      encoding: 'utf8',
    },
  );
  if (status !== 0) return `${stderr.trim()}${signal ? `\nended by ${signal}` : ''}`;
  console.log(stdout.trim());
  return undefined;
}
