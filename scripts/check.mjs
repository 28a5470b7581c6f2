// The static half of `npm test`: format, lint, types, import boundaries (proved by a planted violation), dead code.
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const bin = (name) => join(root, 'node_modules/.bin', name);

/** Runs a tool; resolves with its exit code and output. */
function run(command, args, cwd = root) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd });
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('close', (code) => resolve({ code, output }));
  });
}

const boundaries = (folders = ['packages', 'apps'], cwd = root) =>
  run(bin('depcruise'), ['--config', '.dependency-cruiser.cjs', ...folders], cwd);

/** Imports that must be refused, each by its rule; the last pair only borrows a type back and forth, which is allowed. */
const planted = {
  'packages/nas/src/planted/upwards.ts': "import '@ntaa/supernet';\n",
  'packages/nas/src/planted/back-door.ts': "import '../../../contracts/src/ids.js';\n",
  'packages/nas/src/planted/there.ts': "export { back } from './back.js';\n",
  'packages/nas/src/planted/back.ts': "import './there.js';\nexport const back = 1;\n",
  'packages/nas/src/planted/whole.ts':
    "import type { Part } from './part.js';\nexport type Whole = Part[];\n",
  'packages/nas/src/planted/part.ts':
    "import type { Whole } from './whole.js';\nexport type Part = Whole | 1;\n",
  'apps/api/src/planted.ts': "import '@ntaa/adaptation';\n",
  'packages/nas/src/planted/traced.ts': "import '@opentelemetry/api';\n",
};
const refusals = [
  'room-nas: packages/nas/src/planted/upwards.ts',
  'through-the-front-door: packages/nas/src/planted/back-door.ts',
  'no-circular: packages/nas/src/planted/',
  'room-api: apps/api/src/planted.ts',
  'only-tracing-loads-opentelemetry: packages/nas/src/planted/traced.ts',
];

/** A boundary check that sees nothing passes everything: plant violations in a copy, and see them refused. */
async function plantedViolations() {
  const copy = mkdtempSync(join(tmpdir(), 'ntaa-planted-'));
  try {
    for (const name of ['.dependency-cruiser.cjs', 'tsconfig.json', 'node_modules/@ntaa', 'packages', 'apps'])
      cpSync(join(root, name), join(copy, name), {
        recursive: true,
        verbatimSymlinks: true,
        filter: (path) => !/[/\\](lib|assets|generated|node_modules)$/.test(path),
      });
    for (const [path, code] of Object.entries(planted)) {
      mkdirSync(dirname(join(copy, path)), { recursive: true });
      writeFileSync(join(copy, path), code);
    }
    const { output } = await boundaries(['packages/nas/src/planted', 'apps/api/src/planted.ts'], copy);
    const missed = refusals.filter((refusal) => !output.includes(refusal));
    const wronged = /no-circular: .*(whole|part)/.test(output) ? ['types may refer to each other'] : [];
    return missed.length + wronged.length === 0
      ? { code: 0, output: '' }
      : { code: 1, output: `not as planted: ${[...missed, ...wronged].join(', ')}\n${output}` };
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** The longest first: they run two at a time. */
const checks = [
  ['lint', () => run(bin('eslint'), ['.', '--max-warnings', '0'])],
  ['types', () => run(bin('tsc'), ['-p', '.'])],
  ['format', () => run(bin('prettier'), ['--check', '--log-level', 'warn', '.'])],
  ['boundaries', () => boundaries()],
  ['dead code', () => run(bin('knip'), ['--no-progress'])],
  ['planted violations', plantedViolations],
];

const built = await run(process.execPath, ['scripts/build.mjs']);
if (built.code !== 0) {
  console.error(built.output);
  process.exit(1);
}
let failed = 0;
async function work() {
  for (let next = checks.shift(); next; next = checks.shift()) {
    const [name, check] = next;
    const began = performance.now();
    const { code, output } = await check();
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    console.log(`${code === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)`);
    if (code === 0) continue;
    failed += 1;
    console.log(output.trimEnd());
  }
}
await Promise.all([work(), work()]);
process.exit(failed > 0 ? 1 : 0);
