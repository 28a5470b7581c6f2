import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { expect, test } from 'vitest';
import { visibleGpus } from './index.js';

test('GPUs are those that CUDA_VISIBLE_DEVICES lists', () => {
  const listed = (CUDA_VISIBLE_DEVICES: string) => visibleGpus({ CUDA_VISIBLE_DEVICES });
  expect(listed('0')).toEqual(['0']);
  expect(listed('2, GPU-8932f937,0')).toEqual(['2', 'GPU-8932f937', '0']);
  expect(listed('1,-1,0')).toEqual(['1']);
  expect(listed('-1')).toEqual([]);
  expect(listed('')).toEqual([]);
});

test('or all that the driver tells of, if there is one', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ntaa-gpus-'));
  expect(visibleGpus({ PATH: folder })).toEqual([]);
  // What nvidia-smi prints on a machine with two.
  await writeFile(join(folder, 'nvidia-smi'), '#!/bin/sh\necho GPU-1c3a\necho GPU-77f0\n');
  await chmod(join(folder, 'nvidia-smi'), 0o755);
  const PATH = [folder, process.env['PATH']].join(delimiter);
  expect(visibleGpus({ PATH })).toEqual(['GPU-1c3a', 'GPU-77f0']);
  await writeFile(join(folder, 'nvidia-smi'), '#!/bin/sh\necho "NVIDIA-SMI has failed"\nexit 9\n');
  expect(visibleGpus({ PATH })).toEqual([]);
  await rm(folder, { recursive: true });
});
