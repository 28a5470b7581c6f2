// The static half of `npm test`: format, lint, types, import boundaries (proved by a planted violation), dead code.
import { spawn } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const bin = (name) => join(root, 'node_modules/.bin', name);

/** Runs a tool; resolves with its exit code and output. */
function run(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root });
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('close', (code) => resolve({ code, output }));
  });
}

const boundaries = () => run(bin('depcruise'), ['--config', '.dependency-cruiser.cjs', 'packages', 'apps']);

/** A boundary check that sees nothing passes everything: plant imports that must be refused, and see them refused. */
async function plantedViolations() {
  const folder = join(root, 'packages/nas/src/planted');
  const upwards = join(root, 'apps/api/src/planted-import.ts');
  try {
    mkdirSync(folder, { recursive: true });
    writeFileSync(
      join(folder, 'index.ts'),
      "import '@ntaa/supernet';\nimport '../../../contracts/src/ids.js';\n",
    );
    writeFileSync(upwards, "import '@ntaa/adaptation';\n");
    const { output } = await boundaries();
    const expected = ['room-nas', 'through-the-front-door', 'room-api'];
    const missed = expected.filter((rule) => !output.includes(rule));
    return missed.length === 0
      ? { code: 0, output: '' }
      : { code: 1, output: `planted imports were not refused by: ${missed.join(', ')}\n${output}` };
  } finally {
    rmSync(folder, { recursive: true, force: true });
    rmSync(upwards, { force: true });
  }
}

const checks = [
  ['format', () => run(bin('prettier'), ['--check', '--log-level', 'warn', '.'])],
  ['types', () => run(bin('tsc'), ['-p', '.'])],
  ['lint', () => run(bin('eslint'), ['packages', 'apps', 'test', '--max-warnings', '0'])],
  ['boundaries', boundaries],
  ['dead code', () => run(bin('knip'), ['--no-progress'])],
  ['planted violations', plantedViolations],
];

const built = await run(process.execPath, ['scripts/build.mjs']);
if (built.code !== 0) {
  console.error(built.output);
  process.exit(1);
}
let failed = 0;
for (const [name, check] of checks) {
  const began = performance.now();
  const { code, output } = await check();
  console.log(
    `${code === 0 ? 'ok    ' : 'FAILED'} ${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`,
  );
  if (code === 0) continue;
  failed += 1;
  console.log(output.trimEnd());
}
process.exit(failed > 0 ? 1 : 0);
