/** What operators are told: every metric that the dashboard and the handbook name is there, and every one is in the handbook. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { claimedJob, startApi, type ApiStack } from './setup/api.js';

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');
const named = (text: string): string[] =>
  [...new Set(text.match(/\b(ntaa|http|process|nodejs)_[a-z0-9_]+\b/g))].sort();
let api: ApiStack;
let metrics: string;
beforeAll(async () => {
  api = await startApi();
  const { lease } = await claimedJob(api);
  await api.db.jobs.progress(lease, 'transfer', {
    ...{ fraction: 0.5, eta_seconds: 1, message: 'x', images_per_second: 123, memory_bytes: 5_000_000 },
  });
  await api.db.jobs.create('default', (await claimedJob(api)).request);
  // A histogram has its lines from the first answer on.
  await fetch(`${api.url}/metrics`);
  metrics = await (await fetch(`${api.url}/metrics`)).text();
});
afterAll(() => api?.close());

const value = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(metrics)?.[1]);

test.each(['deploy/grafana-dashboard.json', 'deploy/alerts.yaml', 'docs/operations.md'])(
  '%s names metrics that there are',
  (path) => {
    const there = named(metrics);
    expect(named(read(path)).filter((name) => !there.includes(name))).toEqual([]);
  },
);

test('alerts are rules that Prometheus reads', () => {
  const { groups } = parse(read('deploy/alerts.yaml')) as {
    groups: { rules: { alert: string; expr: string; for: string }[] }[];
  };
  const rules = groups.flatMap((group) => group.rules);
  expect(rules.map(({ alert }) => alert)).toEqual([...new Set(rules.map(({ alert }) => alert))]);
  for (const rule of rules) {
    expect(rule.for).toMatch(/^\d+[sm]$/);
    expect(rule.expr).toMatch(/ > /);
  }
});

test('every metric of ours is in the handbook', () => {
  const explained = named(read('docs/operations.md'));
  const ours = named(metrics).filter((name) => name.startsWith('ntaa_'));
  expect(ours.length).toBeGreaterThan(15);
  expect(ours.filter((name) => !explained.includes(name))).toEqual([]);
});

test('figures of the database', () => {
  expect(value('ntaa_workers_busy')).toBe(1);
  expect(value('ntaa_images_per_second')).toBe(123);
  expect(metrics).toContain('ntaa_trainer_memory_bytes{kind="unknown"} 5000000');
  expect(value('ntaa_job_attempts_total')).toBe(2);
  expect(value('ntaa_outbox_waiting')).toBeGreaterThan(0);
  expect(value('ntaa_queue_oldest_job_seconds')).toBeGreaterThan(0);
  expect(metrics).toContain('ntaa_jobs{status="running"} 2');
});

test('the dashboard is one that Grafana imports', () => {
  const { panels, uid, schemaVersion } = JSON.parse(read('deploy/grafana-dashboard.json')) as {
    panels: { id: number; type: string; targets?: { expr: string }[] }[];
    uid: string;
    schemaVersion: number;
  };
  expect([uid, schemaVersion]).toEqual(['ntaa', 39]);
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  for (const { type, targets } of panels) expect(type === 'row' || targets!.length > 0).toBe(true);
});
