import { expect, it } from 'vitest';
import { scaleOf } from '@ntaa/nas';
import { drawFront, type Front } from './front.js';
import { bar, short, table } from './terminal.js';

const FRONT: Front = {
  evaluated: [{ macs: 1.5e6, accuracy: 0.5 }],
  pareto: [
    { macs: 1e6, accuracy: 0.55 },
    { macs: 2e6, accuracy: 0.6 },
  ],
  measured: [{ name: 'NTAA <&>', mark: 'ntaa', macs: 2e6, accuracy: 0.62, interval: [0.58, 0.66] }],
};

it('covers all values with round ticks, however they lie', () => {
  for (const values of [[0.31, 0.74], [5], [0], [1e6, 4.7e6], [0.5, 0.5000001]]) {
    const { min, max, ticks } = scaleOf(values, 5);
    expect(min).toBeLessThanOrEqual(Math.min(...values));
    expect(max).toBeGreaterThanOrEqual(Math.max(...values) - 1e-9 * Math.abs(max));
    expect(max).toBeGreaterThan(min);
    expect(ticks.length).toBeLessThan(9);
  }
});

it('draws every kind of point, higher accuracy further up', () => {
  const lines = drawFront(FRONT, 40, 10).split('\n');
  const row = (mark: string): number => lines.findIndex((line) => line.includes(mark));
  expect(row('◆')).toBeLessThan(row('●'));
  expect(row('●')).toBeLessThan(row('·'));
  expect(drawFront({ evaluated: [], pareto: [], measured: [] })).toBe('');
});

it('formats numbers, bars and tables', () => {
  expect([short(999), short(13_240), short(4_812_300)]).toEqual(['999', '13.2k', '4.81M']);
  expect([bar(0, 4), bar(0.5, 4), bar(2, 4)]).toEqual(['····', '██··', '████']);
  const [head, rule, row] = table([
    ['', 'accuracy'],
    ['NTAA', '71%'],
  ]).split('\n');
  expect(head!.length).toBe(row!.length);
  expect(rule!.length).toBe(row!.length);
});
