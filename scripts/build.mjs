// Transpiles every package's src/ to lib/ and compiles the training kernels. Runs before every command
// (under a second when nothing changed), so a fresh clone needs no separate build step.
import { build } from 'esbuild';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const rooms = ['packages', 'apps'].flatMap((kind) =>
  readdirSync(join(root, kind)).map((name) => join(kind, name)),
);

/** Every TypeScript source of a room that is not a test, relative to its src/, without extension. */
function sources(room, folder = 'src') {
  return readdirSync(join(root, room, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return sources(room, path);
    return /\.ts$/.test(entry.name) && !/\.(test|d)\.ts$/.test(entry.name) ? [path.slice(4, -3)] : [];
  });
}

const entryPoints = [];
for (const room of rooms) {
  if (!existsSync(join(root, room, 'src'))) continue;
  if (process.argv.includes('--clean')) rmSync(join(root, room, 'lib'), { recursive: true, force: true });
  for (const name of sources(room))
    entryPoints.push({ in: join(root, room, 'src', `${name}.ts`), out: join(room, 'lib', name) });
}
const common = {
  outdir: root,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  sourcemap: true,
  logLevel: 'warning',
};
await build({ ...common, entryPoints });
// Schemas are in every process, and Node takes a quarter of a second to load typebox's 370 files: here they are one.
const contracts = 'packages/contracts/lib/index';
await build({
  ...common,
  entryPoints: entryPoints.filter(({ out }) => out === contracts),
  bundle: true,
  allowOverwrite: true,
});

const kernels = join(root, 'packages/engine/kernels/build.mjs');
if (existsSync(kernels)) await (await import(kernels)).buildKernels();
