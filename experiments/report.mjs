// What an experiment found, as JSON, Markdown and a picture under docs/experiments. Written from results alone.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as draw from '../packages/export/lib/report/picture.js';
import { kendallTau, meanOf, pairedBootstrap, scaleOf } from '../packages/nas/lib/index.js';
import { Rng } from '../packages/random/lib/index.js';

/** Fewer are preliminary. */
const PLANNED = 5;

/** `out`: the folder, `as`: the name of the three files. */
export function writeReport({ lab, name, seeds, out, as }, found) {
  const { set, candidates, resolution, epochs } = lab.settings;
  const without = lab.without.filter(Boolean);
  const short = without.length > 0 ? ` --without ${without.join()}` : '';
  const command = `npm run experiments -- ${name}${short} --set ${set} --which ${seeds.join()} --candidates ${candidates} --resolution ${resolution} --epochs ${epochs}${as === name ? '' : ` --as ${as}`}`;
  const { rows, lines, summary, unit } = found.kind === 'ranking' ? ranking(found) : comparison(found, seeds);
  const head = [
    `# ${found.title}`,
    '',
    `Command: \`${command}\``,
    '',
    `Set: ${set}, a split of its own for each of ${seeds.length} seeds (60 % training, 20 % validation, 20 % test; the whole test split is read once for each network). Budget: ${candidates} candidates, ${epochs} epochs of transfer and ${5 * epochs} of finetuning, at ${resolution} px, search space \`tiny\`, at most the hand-designed network's multiply-accumulates; the source is the built-in supernet. Engine ${lab.engine}; the numbers depend on no clock. Intervals: 95 %, two-level bootstrap over seeds and test items of paired differences (with few seeds a little too narrow; they are not corrected for being several). Nothing was tuned for this, and nothing was selected on test images. A null result is reported as one.`,
    ...(seeds.length < PLANNED
      ? [
          '',
          `**Preliminary:** ${seeds.length} of ${PLANNED} planned seeds, those that were done when time was up. Intervals over so few seeds are no more than a hint.`,
        ]
      : []),
    '',
    `![${found.title}](${as}.svg)`,
    '',
  ];
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, `${as}.md`), [...head, ...lines, ''].join('\n'));
  writeFileSync(join(out, `${as}.svg`), picture(found.title, rows, unit));
  const settings = { ...lab.settings, seeds, engine: lab.engine };
  writeFileSync(
    join(out, `${as}.json`),
    `${JSON.stringify({ experiment: name, command, settings, ...summary }, null, 1)}\n`,
  );
  console.log([...lines].join('\n'));
}

const points = (value, digits = 1) => (100 * value).toFixed(digits);
const signed = (value, digits = 1) => `${value > 0 ? '+' : ''}${points(value, digits)}`;
const mean = (results, of) => meanOf(results.map(of));

/** Difference in top-1 of two arms, seed by seed and item by item. */
function difference(a, b) {
  const groups = a.results.map(({ right }, s) =>
    Array.from(right, (value, i) => Number(value) - Number(b.results[s].right[i])),
  );
  return pairedBootstrap(groups, new Rng('difference', a.name, b.name));
}

function verdict({ low, high }) {
  if (low > 0) return 'better';
  return high < 0 ? 'worse' : 'no difference shown (null)';
}

function comparison({ arms, parts = [], reference, primary, extra, jobs, source, notes = [] }, seeds) {
  const find = (name) => [...arms, ...parts].find((arm) => arm.name === name);
  const own = find(reference);
  const others = arms.filter((arm) => arm !== own);
  const versus = others.map((arm) => ({ arm, ...difference(own, arm) }));
  const asked = extra.filter(([a, b]) => find(a) && find(b));
  const more = asked.map(([a, b, about]) => ({ a, b, about, ...difference(find(a), find(b)) }));
  const first = versus.find(({ arm }) => arm.name === primary);
  const shown = ({ mean: m, low, high }) => `${signed(m)} [${signed(low)}, ${signed(high)}]`;
  const lines = [
    `**Asked beforehand** (${own.about}, less ${first.arm.about}): ${shown(first)} points of top-1: ${verdict(first)}. All else is secondary.`,
    '',
    `| arm | top-1, % | loss | MMACs | image passes | ${own.name} less it, points |  |`,
    '|---|---|---|---|---|---|---|',
    ...arms.map((arm) => {
      const against = versus.find((row) => row.arm === arm);
      const { results } = arm;
      return `| ${arm.name}: ${arm.about} | ${points(mean(results, (r) => r.top1))} | ${mean(results, (r) => r.loss).toFixed(3)} | ${(mean(results, (r) => r.macs) / 1e6).toFixed(2)} | ${Math.round(mean(results, (r) => r.passes))} | ${against ? shown(against) : ''} | ${against ? verdict(against) : ''} |`;
    }),
    '',
    ...(more.length > 0 ? ['| where it comes from | points of top-1 |  |', '|---|---|---|'] : []),
    ...more.map((row) => `| ${row.about} (${row.a} less ${row.b}) | ${shown(row)} | ${verdict(row)} |`),
    ...(jobs ? ['', ...whatJobsDid(jobs, find(primary), seeds)] : []),
    ...(notes.length > 0 ? ['', ...notes] : []),
  ];
  const stripped = [...arms, ...parts].map(({ name, about, results }) => ({
    ...{ name, about },
    results: results.map(({ top1, loss, macs, passes, genotype, right }) => ({
      ...{ top1, loss, macs, passes, genotype },
      right: typeof right === 'string' ? right : right.map((value) => Math.round(1000 * value) / 1000),
    })),
  }));
  const plain = ({ arm, ...row }) => ({ a: own.name, b: arm.name, ...row });
  return {
    lines,
    unit: 'points of top-1',
    rows: versus.map(({ arm, ...row }) => ({
      name: `${own.name} less ${arm.name}`,
      ...{ mean: 100 * row.mean, low: 100 * row.low, high: 100 * row.high },
    })),
    summary: { differences: [...versus.map(plain), ...more], arms: stripped, ...(source && { source }) },
  };
}

/** Why: what each job's search had to choose from, and what it took. */
function whatJobsDid(jobs, wpf, seeds) {
  const choiceOf = ({ choice }) =>
    choice
      ? `${choice.less.toFixed(3)} +- ${choice.error.toFixed(3)}: ${choice.taken ? 'taken' : 'kept the usual'}`
      : 'they are one';
  return [
    "| seed | NTAA, % | WP&F, % | NTAA's MMACs of WP&F's | fifth best candidate's loss less the best's | standard error of a loss | search's best less the usual, loss with inherited weights | tau of loss and MACs |",
    '|---|---|---|---|---|---|---|---|',
    ...jobs.map((job, s) => {
      const losses = job.archive.map(({ loss }) => loss);
      const tau = kendallTau(
        job.archive.map(({ macs }) => macs),
        losses.map((loss) => -loss),
      );
      return `| ${seeds[s]} | ${points(job.top1)} | ${points(wpf.results[s].top1)} | ${(job.macs / 1e6).toFixed(2)} of ${(wpf.results[s].macs / 1e6).toFixed(2)} | ${([...losses].sort((a, b) => a - b)[4] - Math.min(...losses)).toFixed(3)} | ${meanOf(job.archive.map(({ error }) => error)).toFixed(3)} | ${choiceOf(job)} | ${tau.toFixed(2)} |`;
    }),
  ];
}

function ranking({ taus, rows: seeds, architectures }) {
  const names = Object.keys(taus);
  const interval = (values, name) =>
    pairedBootstrap(
      values.map((value) => [value]),
      new Rng('tau', name),
    );
  const means = names.map((name) => ({ name, ...interval(taus[name], name) }));
  const [on, ...others] = names;
  const less = others.map((name) => ({
    name: `recalibrated less ${name}`,
    ...interval(
      taus[on].map((tau, s) => tau - taus[name][s]),
      name,
    ),
  }));
  const shown = ({ mean: m, low, high }) => `${m.toFixed(2)} [${low.toFixed(2)}, ${high.toFixed(2)}]`;
  const top1 = (key) => points(mean(seeds, ({ scores }) => mean(scores, (score) => score[key].top1)));
  const tuned = points(mean(seeds, ({ tuned: all }) => mean(all, (r) => r.top1)));
  return {
    unit: "Kendall's tau",
    rows: [...means, ...less],
    lines: [
      `Kendall's tau with the test loss after finetuning, over the same ${architectures} architectures in every seed (drawn uniformly from the whole space); mean of the seeds, bootstrap over seeds alone. There are no running statistics here to fall back to: "not recalibrated" borrows those of the largest network, channel by channel.`,
      '',
      '| rank by | tau |  |',
      '|---|---|---|',
      ...means.map((row) => `| ${row.name} | ${shown(row)} | |`),
      ...less.map((row) => `| ${row.name} | ${shown(row)} | ${verdict(row)} |`),
      '',
      `Mean top-1 of these architectures: in the supernet, on validation images, ${top1('on')} % recalibrated and ${top1('off')} % not; finetuned, on test images, ${tuned} %.`,
    ],
    summary: { taus, means, differences: less, seeds },
  };
}

/** A point and an interval a row, and the line of no difference. */
function picture(title, rows, unit) {
  const left = 30 + Math.max(...rows.map(({ name }) => draw.widthOf(name)));
  const [width, top, step] = [left + 460, 60, 30];
  const bottom = top + step * rows.length;
  const scale = scaleOf([0, ...rows.flatMap(({ low, high }) => [low, high])], 6);
  const x = (value) => left + ((value - scale.min) / (scale.max - scale.min)) * 420;
  const y = (i) => top + step * (i + 0.5);
  const body = [
    draw.text(20, 32, title, { class: 'title' }),
    ...scale.ticks.map(
      (tick) =>
        draw.line('s-line', [x(tick), top], [x(tick), bottom]) +
        draw.text(x(tick), bottom + 20, String(Number(tick.toFixed(6))), {
          class: 'quiet',
          anchor: 'middle',
        }),
    ),
    draw.line('s-ink', [x(0), top], [x(0), bottom]),
    draw.text(left + 210, bottom + 42, `${unit}, 95 % intervals`, { anchor: 'middle' }),
    ...rows.map(
      ({ name, mean: m, low, high }, i) =>
        draw.text(20, y(i) + 4, name) +
        draw.line('s-front', [x(low), y(i)], [x(high), y(i)]) +
        draw.circle('f-front', x(m), y(i), 4),
    ),
  ].join('\n');
  const told = rows.map(
    ({ name, mean: m, low, high }) =>
      `${name}: ${m.toFixed(2)}, from ${low.toFixed(2)} to ${high.toFixed(2)}`,
  );
  const description = `${unit}. ${told.join('; ')}.`;
  return draw.standalone({ title, description, width, height: bottom + 60, body });
}
