import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeDataFolder } from './index.js';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'ntaa-folder-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

test('made for this user alone, with what is above it; by several processes at once', async () => {
  const folder = join(root, 'a b', 'ünï', 'data');
  await Promise.all([makeDataFolder(folder), makeDataFolder(folder), makeDataFolder(folder)]);
  expect((await stat(folder)).mode & 0o777).toBe(0o700);
  await makeDataFolder(folder);
});

test('a file in its place, or above it', async () => {
  const file = join(root, 'file');
  await writeFile(file, '');
  for (const path of [file, join(file, 'below')])
    await expect(makeDataFolder(path)).rejects.toThrow(`NTAA_DATA_DIR ${path} cannot be used: a file is`);
});

test.runIf(process.platform === 'linux')('a file system that takes no folders', async () => {
  await expect(makeDataFolder('/proc/nope/data')).rejects.toThrow(/no folder can be made there\. Set NTAA_/);
});

test.skipIf(process.getuid?.() === 0)('a folder of somebody else', async () => {
  await chmod(root, 0o500);
  await expect(makeDataFolder(join(root, 'data'))).rejects.toThrow(/permission denied/);
});
