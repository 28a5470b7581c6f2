// Builds what the engine needs beside its own TypeScript, into generated/ (never committed):
//   kernels-simd.wasm, kernels-relaxed.wasm   the training kernels, without and with fused multiply-add
//   gradients.mjs                             TensorFlow.js's own gradient definitions and chained ops, which the
//                                             Node bundle of tfjs-core leaves out
// Skips at once when sources, tools and this file are unchanged.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, '..', 'generated');
const require = createRequire(import.meta.url);
const ENTRY = 'main.ts';

const builds = { 'kernels-simd': ['simd'], 'kernels-relaxed': ['simd', 'relaxed-simd'] };

/** Compiles the kernels and bundles the gradients when anything they are made of has changed. */
export async function buildKernels() {
  const hash = sourceHash();
  const stamp = join(out, 'hash');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return;
  mkdirSync(out, { recursive: true });
  await bundleGradients();
  for (const [name, features] of Object.entries(builds)) await compile(name, features);
  replace('hash', hash);
}

function sourceHash() {
  const hash = createHash('sha256');
  for (const file of readdirSync(here).sort()) hash.update(file).update(readFileSync(join(here, file)));
  for (const tool of ['assemblyscript', '@tensorflow/tfjs-core', 'esbuild'])
    hash.update(readFileSync(packageJson(tool)));
  return hash.digest('hex');
}

function packageJson(name) {
  return join(
    require.resolve.paths(name).find((folder) => existsSync(join(folder, name))),
    name,
    'package.json',
  );
}

async function compile(name, features) {
  const asc = await import('assemblyscript/asc');
  const written = new Map();
  const { error, stderr } = await asc.main(
    [
      ENTRY,
      '--outFile',
      `${name}.wasm`,
      ...['--runtime', 'stub', '--importMemory', '--noExportMemory', '--noAssert', '-O3', '--converge'],
      ...features.flatMap((feature) => ['--enable', feature]),
      ...['--use', 'abort='],
    ],
    {
      readFile: (file) => {
        const path = join(here, file);
        return existsSync(path) ? readFileSync(path, 'utf8') : null;
      },
      writeFile: (file, data) => void written.set(file, data),
      listFiles: () => [],
    },
  );
  if (error) throw new Error(`AssemblyScript: ${error.message}\n${stderr.toString()}`);
  replace(`${name}.wasm`, written.get(`${name}.wasm`));
}

async function bundleGradients() {
  const { build } = await import('esbuild');
  const core = '@tensorflow/tfjs-core/dist';
  const result = await build({
    stdin: {
      contents: `import '${core}/register_all_gradients.js'; import '${core}/public/chained_ops/register_all_chained_ops.js';`,
      resolveDir: here,
    },
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    mainFields: ['module', 'main'],
    minifyWhitespace: true,
    legalComments: 'inline',
    logLevel: 'error',
  });
  replace('gradients.mjs', result.outputFiles[0].contents);
}

/** Two builds may run at once: write beside, then rename. */
function replace(name, content) {
  const temporary = join(out, `${name}.${process.pid}`);
  writeFileSync(temporary, content);
  renameSync(temporary, join(out, name));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildKernels();
