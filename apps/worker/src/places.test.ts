import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Places } from './places.js';

test('a worker without GPUs has one place, and knows since when it is free', async () => {
  const places = new Places([]);
  await sleep(30);
  expect(places.load).toMatchObject({ slots: 1, free: 1 });
  expect(places.load.idleMs).toBeGreaterThan(25);
  await places.use(async (gpu, taken) => {
    expect(gpu).toBeNull();
    taken();
    expect(places.load).toEqual({ slots: 1, free: 0, idleMs: null });
  });
  expect(places.load.idleMs).toBeLessThan(25);
});

test('waking up for nothing is idle, and so is every place beside the one that works', async () => {
  const places = new Places(['a', 'b']);
  await sleep(30);
  await places.use(async () => undefined);
  expect(places.load.idleMs).toBeGreaterThan(25);
  await places.use(async (gpu, taken) => {
    taken();
    expect(gpu).toBe('b');
    await sleep(30);
    expect(places.load).toMatchObject({ slots: 2, free: 1 });
    expect(places.load.idleMs).toBeGreaterThan(25);
  });
  await expect(places.use(() => Promise.reject(new Error('lost')))).rejects.toThrow('lost');
  expect(places.load).toMatchObject({ free: 2 });
});
