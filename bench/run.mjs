// node bench/run.mjs [NAME]: runs bench/NAME.mjs, or every benchmark. Each prints JSON as its last line.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const all = readdirSync(here)
  .filter((file) => file.endsWith('.mjs') && file !== 'run.mjs')
  .map((file) => file.slice(0, -4))
  .sort();
const [name, ...options] = process.argv.slice(2);
if (name && !existsSync(join(here, `${name}.mjs`))) {
  console.error(`no benchmark ${name}; there are: ${all.join(', ')}`);
  process.exit(1);
}
let failed = 0;
for (const bench of name ? [name] : all) {
  const { status } = spawnSync(process.execPath, [join(here, `${bench}.mjs`), ...options], {
    stdio: 'inherit',
  });
  if (status !== 0) failed = 1;
}
process.exit(failed);
