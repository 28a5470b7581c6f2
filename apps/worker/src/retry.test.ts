import { expect, it } from 'vitest';
import { decide } from './retry.js';

const detail = 'x';

it('tries again what may pass, and memory that is short once, with half the batch', () => {
  expect(decide({ code: 'internal', detail, retryable: true }, ['internal'])).toEqual({
    retry: 'same',
    detail,
  });
  expect(decide({ code: 'training-diverged', detail, retryable: false }, [])).toEqual({
    retry: 'no',
    detail,
  });
  const short = { code: 'out-of-memory', detail, retryable: true } as const;
  expect(decide(short, []).retry).toBe('half-batch');
  expect(decide(short, ['worker-lost']).retry).toBe('half-batch');
  expect(decide(short, ['out-of-memory', 'worker-lost'])).toMatchObject({
    retry: 'no',
    detail: expect.stringMatching(/even with batches of half the size/),
  });
});
