/**
 * Experiments run from beginning to end and write their reports; what they find is not for tests (docs/experiments). E4 and an
 * arm of E1 want sets of their own, whose images take a minute.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';

const { pictures } = (await import(new URL('chaos/pictures.mjs', import.meta.url).href)) as {
  pictures(options: { count: number }): Promise<Buffer>;
};
const RUN = fileURLToPath(new URL('../experiments/run.mjs', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'ntaa-experiments-test-'));
const archive = join(folder, 'rows.zip');

beforeAll(async () => writeFileSync(archive, await pictures({ count: 120 })));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.each(['e1', 'e2', 'e3', 'e5'])(
  '%s writes its report',
  (name) => {
    const small = ['--set', archive, '--which', '0,1', '--candidates', '4', '--epochs', '0.1'];
    const args = [name, ...small, '--without', 'wpf-source-best', '--out', folder];
    const { status, stderr } = spawnSync(process.execPath, [RUN, ...args], {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
    });
    expect(status, stderr).toBe(0);
    const { arms = [], taus = {} } = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as {
      arms?: { results: { top1: number }[] }[];
      taus?: Record<string, number[]>;
    };
    const figures = [
      ...arms.flatMap(({ results }) => results.map(({ top1 }) => top1)),
      ...Object.values(taus).flat(),
    ];
    expect(figures.length).toBeGreaterThanOrEqual(4);
    for (const figure of figures) expect(figure).toBeGreaterThanOrEqual(-1);
    expect(readFileSync(join(folder, `${name}.md`), 'utf8')).toContain(`${name}.svg`);
    expect(readFileSync(join(folder, `${name}.svg`), 'utf8')).toContain('</svg>');
  },
  120_000,
);
