/** How libtensorflow is fetched, against an index on this machine: found, resumed, refused when damaged. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { ZipFile } from 'yazl';

interface Wheel {
  name: string;
  url: string;
  sha256: string;
}
interface Module {
  findWheel(of: { project: string; version: string; machine: string; glibc: string }): Promise<Wheel>;
  download(wheel: Wheel, file: string): Promise<void>;
  unpack(wheel: string, folder: string, libraries: string[]): Promise<void>;
}
const { findWheel, download, unpack } = (await import(
  new URL('../scripts/tensorflow-wheel.mjs', import.meta.url).href
)) as Module;

const LIBRARIES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'];
const NAME = 'tensorflow_cpu-2.21.0-cp310-cp310-manylinux_2_27_x86_64.whl';
const wanted = { project: 'tensorflow-cpu', version: '2.21.0', machine: 'x86_64', glibc: '2.36' };
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes);

let folder: string;
let server: Server;
let wheel: Buffer;
let asked: IncomingMessage[];
/** What the index says instead of JSON, and the digest it names. */
let page: { html: boolean; sha256: string };

/** A wheel as small as can be. `damaged`: a file that is not what the wheel's list says. */
async function makeWheel(damaged?: string): Promise<Buffer> {
  const zip = new ZipFile();
  const files = [...LIBRARIES, 'include/tensorflow/c/c_api.h', 'include/other.h'].map(
    (name) => `tensorflow/${name}`,
  );
  const lines = files.map((path) => {
    const bytes = Buffer.from(path.repeat(1000));
    zip.addBuffer(path === damaged ? Buffer.from('x') : bytes, path);
    return `${path},sha256=${sha256(bytes).digest('base64url')},${bytes.length}`;
  });
  zip.addBuffer(Buffer.from(lines.join('\n')), 'tensorflow_cpu-2.21.0.dist-info/RECORD');
  zip.end();
  return buffer(zip.outputStream);
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ntaa-wheel-'));
  wheel = await makeWheel();
  page = { html: false, sha256: sha256(wheel).digest('hex') };
  asked = [];
  server = createServer((request, response) => {
    asked.push(request);
    if (request.url === `/files/${NAME}`) {
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      if (from > 0 && from >= wheel.length) return void response.writeHead(416).end();
      return void response.writeHead(from > 0 ? 206 : 200).end(wheel.subarray(from));
    }
    const names = [
      NAME.replace('x86_64', 'aarch64'),
      NAME.replace('2_27', '2_99'),
      NAME.replace('21', '20'),
      NAME,
    ];
    if (page.html)
      return void response
        .writeHead(200, { 'content-type': 'text/html' })
        .end(names.map((name) => `<a href="/files/${name}#sha256=${page.sha256}">${name}</a>`).join('\n'));
    const files = names.map((name) => ({
      filename: name,
      url: `/files/${name}`,
      hashes: { sha256: page.sha256 },
    }));
    response
      .writeHead(200, { 'content-type': 'application/vnd.pypi.simple.v1+json' })
      .end(JSON.stringify({ files }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  vi.stubEnv(
    'PIP_INDEX_URL',
    `http://user:secret@127.0.0.1:${(server.address() as AddressInfo).port}/simple/`,
  );
});
afterEach(async () => {
  vi.unstubAllEnvs();
  server.close();
  await rm(folder, { recursive: true });
});

it.each([false, true])(
  'finds the wheel for this machine, by pages of HTML %s, behind a password',
  async (html) => {
    page.html = html;
    const found = await findWheel(wanted);
    expect(found).toMatchObject({ name: NAME, sha256: page.sha256 });
    expect(asked[0]!.url).toBe('/simple/tensorflow-cpu/');
    await download(found, join(folder, NAME));
    for (const { headers } of asked)
      expect(headers.authorization).toBe(`Basic ${Buffer.from('user:secret').toString('base64')}`);
    await expect(findWheel({ ...wanted, version: '2.19.0' })).rejects.toThrow(
      /no tensorflow-cpu 2\.19\.0 for x86_64 and glibc 2\.36; of 2\.12 and later it has 2\.20\.0, 2\.21\.0$/,
    );
  },
);

it('goes on where it stopped, and keeps nothing that is not what the index says', async () => {
  const found = await findWheel(wanted);
  const file = join(folder, NAME);
  await writeFile(`${file}.part`, wheel.subarray(0, 100));
  await download(found, file);
  expect(asked.at(-1)!.headers.range).toBe('bytes=100-');
  expect((await readFile(file)).equals(wheel)).toBe(true);
  const requests = asked.length;
  await download(found, file);
  expect(asked).toHaveLength(requests);

  // All of it was here, but under another name; or as much, but something else.
  await rm(file);
  for (const left of [wheel, Buffer.alloc(wheel.length)]) {
    await writeFile(`${file}.part`, left);
    await download(found, file);
    expect((await readFile(file)).equals(wheel)).toBe(true);
    await rm(file);
  }
  await writeFile(`${file}.part`, Buffer.alloc(100));
  await expect(download(found, file)).rejects.toThrow(
    /has sha256 \w+, the index says \w+: removed, run the command again/,
  );
  expect([existsSync(file), existsSync(`${file}.part`)]).toEqual([false, false]);
});

it('unpacks what is needed, and refuses what is missing or damaged', async () => {
  const file = join(folder, NAME);
  await writeFile(file, wheel);
  await unpack(file, join(folder, 'out'), LIBRARIES);
  expect(existsSync(join(folder, 'out/include/tensorflow/c/c_api.h'))).toBe(true);
  expect(existsSync(join(folder, 'out/include/other.h'))).toBe(false);
  expect((await readFile(join(folder, 'out', LIBRARIES[0]!))).length).toBeGreaterThan(1000);
  await expect(unpack(file, join(folder, 'out'), ['libother.so'])).rejects.toThrow(
    /has no libother\.so: TensorFlow 2\.12/,
  );
  await writeFile(file, await makeWheel(`tensorflow/${LIBRARIES[1]}`));
  await expect(unpack(file, join(folder, 'out'), LIBRARIES)).rejects.toThrow(
    /framework\.so\.2 in .* is damaged/,
  );
  await writeFile(file, wheel.subarray(0, 500));
  await expect(unpack(file, join(folder, 'out'), LIBRARIES)).rejects.toThrow(/is not a wheel/);
});
