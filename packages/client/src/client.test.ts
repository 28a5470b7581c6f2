import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseSse } from './events.js';
import { ApiError, NtaaClient } from './index.js';

type Answer = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

let folder: string;
let server: Server;
let answer: Answer;
let client: NtaaClient;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ntaa-client-'));
  server = createServer((request, response) => void answer(request, response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  client = new NtaaClient({ baseUrl: `http://127.0.0.1:${port}/`, apiKey: 'secret' });
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true, force: true });
});

const json = (response: ServerResponse, status: number, body: unknown): void => {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
};
const frame = (seq: number, type: string): string =>
  `id: ${seq}\nevent: ${type}\ndata: ${JSON.stringify({ seq, type, created_at: '', data: {} })}\n\n`;

describe('requests', () => {
  it('sends the key and throws problems with every error listed', async () => {
    answer = (request, response) => {
      expect(request.headers.authorization).toBe('Bearer secret');
      const errors = [{ pointer: '/budget', code: 'too-small', detail: 'must be at least 10' }];
      json(response, 422, { code: 'validation-failed', detail: 'The request is not valid', errors });
    };
    const failed = client.createJob({ kind: 'adapt', task: 'classification', dataset: 'ds_1' });
    const error = await failed.catch((e: unknown) => e as ApiError);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status: 422, code: 'validation-failed', errors: [{ pointer: '/budget' }] });
    expect((error as ApiError).message).toContain('/budget: must be at least 10');
  });

  it('survives an error that is no problem document', async () => {
    answer = (_, response) => void response.writeHead(502).end('<html>bad gateway</html>');
    await expect(client.job('job_1')).rejects.toMatchObject({ status: 502, transient: true });
  });

  it('follows every page of candidates', async () => {
    answer = (request, response) => {
      const after = new URL(request.url!, 'http://x').searchParams.get('after');
      json(response, 200, { data: [after ?? 'first'], has_more: after === null, next_cursor: 'c2' });
    };
    expect(await client.candidates('job_1')).toEqual(['first', 'c2']);
  });

  it('streams an upload as multipart with its fields before the file', async () => {
    const bytes = randomBytes(300_000);
    await writeFile(join(folder, 'a.zip'), bytes);
    let form: FormData | undefined;
    answer = async (request, response) => {
      const body = await buffer(request);
      const headers = { 'content-type': request.headers['content-type']! };
      form = await new Response(body, { headers }).formData();
      json(response, 202, { id: 'ds_1' });
    };
    await client.uploadDataset(join(folder, 'a.zip'), { name: 'my "set"' });
    expect([...form!.keys()]).toEqual(['name', 'file']);
    expect(form!.get('name')).toBe('my "set"');
    const file = form!.get('file') as File;
    expect(file.name).toBe('a.zip');
    expect(Buffer.from(await file.arrayBuffer()).equals(bytes)).toBe(true);
  });
});

describe('events', () => {
  it('parses frames cut anywhere, with any line ending', async () => {
    const text =
      ': hello\r\nretry: 10\r\n\r\nid: 1\r\ndata: a\r\ndata: ü\r\n\r\nid: 2\ndata:b\n\nid: 3\rdata: c\r\r';
    const bytes = Buffer.from(`${text}\n`);
    for (const size of [1, 2, 3, 7, 1000]) {
      async function* chunks() {
        for (let i = 0; i < bytes.length; i += size) yield bytes.subarray(i, i + size);
      }
      const found: unknown[] = [];
      for await (const message of parseSse(chunks())) found.push(message);
      expect(found).toEqual([
        { id: '1', data: 'a\nü' },
        { id: '2', data: 'b' },
        { id: '3', data: 'c' },
      ]);
    }
  });

  it('goes on after the last event seen when the connection breaks, and ends after done', async () => {
    const asked: (string | undefined)[] = [];
    answer = (request, response) => {
      asked.push(request.headers['last-event-id'] as string | undefined);
      if (asked.length === 2) return json(response, 503, { code: 'unavailable', detail: 'later' });
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      if (asked.length === 1)
        response.write(frame(1, 'status') + frame(2, 'stage'), () => response.destroy());
      else response.end(frame(2, 'stage') + frame(3, 'done') + frame(4, 'log'));
    };
    const seen: number[] = [];
    for await (const event of client.events('job_1', { maxPause: 5 })) seen.push(event.seq);
    expect(seen).toEqual([1, 2, 3]);
    expect(asked).toEqual([undefined, '2', '2']);
  });

  it('throws what will not get better, and obeys its signal', async () => {
    answer = (_, response) => json(response, 404, { code: 'not-found', detail: 'no such job' });
    await expect(client.events('job_1').next()).rejects.toMatchObject({ status: 404 });
    answer = (_, response) => void response.writeHead(200).write(': open\n\n');
    const controller = new AbortController();
    const next = client.events('job_1', { signal: controller.signal }).next();
    controller.abort(new Error('enough'));
    await expect(next).rejects.toThrow('enough');
  });
});

describe('download', () => {
  const bytes = randomBytes(200_000);
  const sha256 = createHash('sha256').update(bytes).digest('hex');

  it('writes the file and returns its digest', async () => {
    answer = (_, response) =>
      void response.writeHead(200, { etag: `"${sha256}"`, 'content-length': bytes.length }).end(bytes);
    const file = await client.download('mdl_1', join(folder, 'model.zip'));
    expect(file).toEqual({ path: join(folder, 'model.zip'), size: bytes.length, sha256 });
    expect((await readFile(file.path)).equals(bytes)).toBe(true);
  });

  it('leaves nothing behind when bytes are damaged or missing', async () => {
    answer = (_, response) => void response.writeHead(200, { etag: `"${'0'.repeat(64)}"` }).end(bytes);
    await expect(client.download('mdl_1', join(folder, 'a'))).rejects.toThrow(/damaged/);
    answer = (_, response) => {
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 1000), () => response.destroy());
    };
    await expect(client.download('mdl_1', join(folder, 'b'))).rejects.toThrow();
    expect(await readdir(folder)).toEqual([]);
  });
});
