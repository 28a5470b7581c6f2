import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { sniffArchive } from './uploads.js';

test('recognises archives by content', async () => {
  const tar = pack();
  tar.entry({ name: 'a.txt' }, 'hello');
  tar.finalize();
  const bytes = await buffer(tar);
  expect(sniffArchive(bytes.subarray(0, 512))).toBe('tar');
  expect(sniffArchive(gzipSync(bytes).subarray(0, 512))).toBe('gzip');
  expect(sniffArchive(Buffer.from('PK\x03\x04....'))).toBe('zip');
  expect(sniffArchive(Buffer.from('PK\x05\x06....'))).toBe('zip');
});

test('refuses what is not one', () => {
  for (const bytes of [
    Buffer.alloc(0),
    Buffer.alloc(512),
    Buffer.from('PK\x01\x02'),
    Buffer.from('\x89PNG\r\n'),
    Buffer.alloc(512, 0x20),
  ])
    expect(sniffArchive(bytes)).toBeNull();
});
