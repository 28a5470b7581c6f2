import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Slots } from './slots.js';

test('a worker without GPUs has one place, and knows since when it is free', async () => {
  const slots = new Slots([], () => undefined);
  await sleep(30);
  expect(slots.load).toMatchObject({ slots: 1, free: 1 });
  expect(slots.load.idleMs).toBeGreaterThan(25);
  await slots.forJob(async (gpu, taken) => {
    expect(gpu).toBeNull();
    taken();
    expect(slots.load).toEqual({ slots: 1, free: 0, idleMs: null });
  });
  expect(slots.load.idleMs).toBeLessThan(25);
});

test('waking up for nothing is idle, and so is every place beside the one that works', async () => {
  const slots = new Slots(['a', 'b'], () => undefined);
  await sleep(30);
  await slots.forJob(async () => undefined);
  expect(slots.load.idleMs).toBeGreaterThan(25);
  await slots.forJob(async (gpu, taken) => {
    taken();
    expect(gpu).toBe('a');
    await sleep(30);
    expect(slots.load).toMatchObject({ slots: 2, free: 1 });
    expect(slots.load.idleMs).toBeGreaterThan(25);
  });
  await expect(slots.forJob(() => Promise.reject(new Error('lost')))).rejects.toThrow('lost');
  expect(slots.load).toMatchObject({ free: 2 });
});
