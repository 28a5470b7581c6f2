// npm run experiments -- NAME [--seeds 5] [--first 0, or --which 0,3] [--set emoji] [--candidates 16] [--resolution 24] [--epochs 2: of transfer, and 5 times as many of finetuning] [--threads 2]
//   [--minutes N: stop after the piece of work during which they end; the same command goes on] [--no-report]
//   [--without ARM,ARM: of E1] [--as NAME: of the report] [--out docs/experiments]
// npm run experiments -- tune ...: what recipes are worth on validation images (tune.mjs)
// NAME: e1 ... (see docs/experiments). Everything that was computed is kept in .cache/experiments.
import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openLab, OutOfTime } from './lab.mjs';
import { writeReport } from './report.mjs';

if (process.argv[2] === 'tune') {
  await import('./tune.mjs');
  process.exit();
}
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seeds: { type: 'string', default: '5' },
    first: { type: 'string', default: '0' },
    set: { type: 'string', default: 'emoji' },
    candidates: { type: 'string', default: '16' },
    resolution: { type: 'string', default: '24' },
    epochs: { type: 'string', default: '2' },
    threads: { type: 'string', default: String(Math.min(2, availableParallelism())) },
    minutes: { type: 'string', default: 'Infinity' },
    which: { type: 'string' },
    without: { type: 'string', default: '' },
    as: { type: 'string' },
    out: { type: 'string', default: fileURLToPath(new URL('../docs/experiments', import.meta.url)) },
    'no-report': { type: 'boolean', default: false },
  },
});
const here = fileURLToPath(new URL('.', import.meta.url));
const [name] = positionals;
if (!name || !/^e\d$/.test(name) || !existsSync(`${here}${name}.mjs`)) {
  const all = readdirSync(here).filter((file) => /^e\d\.mjs$/.test(file));
  console.error(`which experiment? ${all.map((file) => file.slice(0, 2)).join(', ')}`);
  process.exit(1);
}
const [seeds, first, candidates, resolution, epochs, threads, minutes] = [
  ...[
    values.seeds,
    values.first,
    values.candidates,
    values.resolution,
    values.epochs,
    values.threads,
    values.minutes,
  ],
].map(Number);
const lab = await openLab({
  without: values.without.split(','),
  set: values.set,
  candidates,
  resolution,
  epochs,
  threads,
  minutes,
});
try {
  const { experiment } = await import(`./${name}.mjs`);
  const chosen = values.which?.split(',').map(Number) ?? Array.from({ length: seeds }, (_, i) => first + i);
  const found = await experiment(lab, chosen);
  if (!values['no-report'])
    writeReport({ lab, name, seeds: chosen, out: values.out, as: values.as ?? name }, found);
} catch (error) {
  if (!(error instanceof OutOfTime)) throw error;
  console.log('not done yet: the same command goes on from here');
  process.exitCode = 75;
} finally {
  await lab.close();
}
