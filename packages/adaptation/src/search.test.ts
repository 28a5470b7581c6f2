import { canonical, cost, handDesigned, largest, RACE, smallest, tinySpace } from '@ntaa/nas';
import { expect, it } from 'vitest';
import type { Run } from './run.js';
import { finalists, winner } from './search.js';

const raced = [
  { loss: 0.5, error: 0.1, seconds: 0, quality: 0, metrics: {} },
  { loss: 0.505, error: 0.1, seconds: 0, quality: 0, metrics: {} },
  { loss: 0.9, error: 0.1, seconds: 0, quality: 0, metrics: {} },
];
const chosen = (out: readonly number[], costs = [3, 2, 1]) =>
  winner(
    { state: { raced: raced.map((one, i) => ({ ...one, out: out.includes(i) })) } } as unknown as Run,
    costs,
  );

it('chooses the best finalist, or a cheaper one that is as good', () => {
  expect(chosen([])).toBe(1);
  expect(chosen([], [1, 2, 3])).toBe(0);
});

it('compares only those with as many image passes, unless all were cut short', () => {
  expect(chosen([1])).toBe(0);
  expect(chosen([0, 1])).toBe(2);
  expect(chosen([0, 1, 2])).toBe(1);
});

it('races the best of the dearer half and the usual one, and nobody where passes are few', () => {
  const usual = handDesigned(tinySpace);
  const loss = new Map([
    [smallest(tinySpace), 0.5],
    [usual, 0.7],
    [{ ...largest(tinySpace), resolution: 32 }, 0.6],
    [largest(tinySpace), 0.8],
  ]);
  const [small, , roomy] = [...loss.keys()];
  const archive = [...loss].map(([genotype, loss]) => ({
    ...{ genotype, key: canonical(genotype), loss, score: -loss, version: 0 },
    ...{ ...cost(tinySpace, genotype, 9), latency_ms: null },
  }));
  const found = (epochs: number, deadline: number | null = null) => {
    const state = { archive, version: 0, plan: { deadline } };
    return finalists({ state, axis: 'macs', constraints: {} } as unknown as Run, usual, epochs);
  };
  const enough = RACE.leastEpochs / RACE.share;
  expect(found(enough)).toEqual([roomy, usual]);
  expect(found(0.9 * enough)).toEqual([roomy]);
  // The clock gives a small network more passes.
  expect(found(0.9 * enough, 1000)).toEqual([small]);
});
