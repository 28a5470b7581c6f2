// Runs the numerical tests on other versions of Node, fetched as npm packages: node scripts/test-nodes.mjs [22 24]
// Users have Node 20.19 or newer, and each brings another V8: its SIMD, its garbage collector, its worker threads.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const majors = process.argv.length > 2 ? process.argv.slice(2) : ['22', '24'];
const rooms = ['packages/engine', 'packages/supernet', 'packages/adaptation'];
// The packages exist for these; elsewhere the tests run on the Node that is there.
const platform = { linux: 'linux', darwin: 'darwin' }[process.platform];
if (!platform) {
  console.log(`skipped: other Nodes are fetched on Linux and macOS only, not on ${process.platform}`);
  process.exit(0);
}

let failed = 0;
for (const major of majors) {
  const node = fetchNode(major);
  const version = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim();
  console.log(`Node ${version}: ${rooms.join(', ')}`);
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const { status } = spawnSync(node, [vitest, 'run', ...rooms], { cwd: root, stdio: 'inherit' });
  if (status !== 0) failed += 1;
}
process.exit(failed === 0 ? 0 : 1);

/** Path of a Node of this major version, fetched once into .cache. */
function fetchNode(major) {
  const folder = join(root, '.cache/nodes', major);
  const node = join(folder, 'bin/node');
  if (existsSync(node)) return node;
  const scratch = `${folder}.part`;
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(scratch, { recursive: true });
  const name = `node-${platform}-${process.arch}@${major}`;
  const [{ filename }] = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--silent', name], { cwd: scratch, encoding: 'utf8' }),
  ).slice(-1);
  execFileSync('tar', ['xzf', filename, '--strip-components=1'], { cwd: scratch });
  rmSync(join(scratch, filename));
  renameSync(scratch, folder);
  return node;
}
