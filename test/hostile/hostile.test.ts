/**
 * The hostile corpus, against the service as users run it. Every case has the status and code it must be answered with;
 * after each the service is ready, and of what was refused nothing is left.
 */
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { zip } from '../../packages/data/src/fixtures.js';
import { ARCHIVES, IMAGES } from './archives.js';
import { deepBomb, GOOD, image, pngBomb, textBomb, withGood } from './bytes.js';
import { meanColourOnnx } from '../setup/onnx.js';
import { claimedJob, succeedWithModel, type ApiStack } from '../setup/api.js';
import sharp from 'sharp';
import { BODIES, FORMS, RAW, SLOW, URLS } from './requests.js';
import { rowsOf } from './rows.js';
import { ADMIN, part, startTarget, type Answer, type Target } from './target.js';

let target: Target;
let slow: Promise<string>[];
/** Answers of all archives' uploads: two workers are at them while the requests are tried. */
let uploads: Map<string, Promise<Answer>>;
let idle: number;

beforeAll(async () => {
  target = await startTarget();
  idle = await target.peakMemory();
  slow = SLOW.map(([, send]) => send(target));
  uploads = new Map();
  let before: Promise<unknown> = Promise.resolve();
  const upload = (name: string, file: () => Buffer | Promise<Buffer>): void => {
    const sent = before.then(async () => target.upload(await file()));
    before = sent.catch(() => undefined);
    uploads.set(name, sent);
  };
  upload('images', async () =>
    zip([
      ...GOOD,
      ...(await Promise.all(IMAGES.map(async ([name, , make]) => ({ path: `odd/${name}.png`, data: await make(), method: 0 })))), // prettier-ignore
    ]),
  );
  for (const { name, file } of ARCHIVES) upload(name, file);
});
afterAll(() => target?.stop());

async function stillFine(): Promise<void> {
  expect(await target.alive()).toBe(true);
}
const codes = (answer: Answer): [number, string | undefined] => [answer.status, answer.body.code];

describe('requests', () => {
  test.each(BODIES)('$name', async ({ method = 'GET', path, ask, answer }) => {
    const got = await target.ask(method, path, ask);
    expect(codes(got), got.text).toEqual([...answer]);
    expect(got.headers['content-type']).toMatch(/^application\/problem\+json/);
    await stillFine();
  });
  test.each(URLS)('URL: $name', async ({ method = 'GET', path, ask, answer }) => {
    const got = await target.ask(method, path, ask);
    expect(codes(got), got.text).toEqual([...answer]);
    await stillFine();
  });
  test.each(FORMS)('%s', async (_, send, answer) => {
    const got = await send(target);
    expect(codes(got), got.text).toEqual([...answer]);
    await stillFine();
  });
  test.each(RAW)('raw: %s', async (_, send, begins) => {
    expect(await send(target)).toMatch(begins!);
    await stillFine();
  });
});

describe('uploads that come to nothing', () => {
  const pending = async (): Promise<number> =>
    (await target.files('objects')).filter((name) => name.startsWith('~drafts/')).length;

  test('the client hangs up in the middle', async () => {
    const body = part('file', Buffer.concat([withGood(), randomBytes(200_000)]), 'x.zip');
    const type = 'Content-Type: multipart/form-data; boundary=hostile-boundary';
    for (let i = 0; i < 5; i++)
      await target.raw([target.head('POST /v1/datasets', type, 'Content-Length: 900000'), body], {
        ...{ hangUp: true, every: 30 },
      });
    await expect.poll(pending, { timeout: 10_000 }).toBe(0);
    await stillFine();
  });

  test('fewer bytes than stated, then the end', async () => {
    const { body } = await target.ask('POST', '/v1/uploads', { body: { size: 5000 } });
    const { url } = (body as unknown as { parts: { url: string }[] }).parts[0]!;
    const { pathname, search } = new URL(url);
    await target.raw([target.head(`PUT ${pathname}${search}`, 'Content-Length: 5000'), 'PK\x03\x04'], {
      ...{ hangUp: true, every: 30 },
    });
    expect(codes(await target.ask('PUT', pathname + search, { body: Buffer.alloc(10), key: null }))).toEqual([
      422,
      'validation-failed',
    ]);
    expect(codes(await target.ask('PUT', pathname, { body: Buffer.alloc(5000), key: null }))).toEqual([
      404,
      'not-found',
    ]);
    expect(codes(await target.ask('POST', '/v1/datasets', { body: { upload: body.id } }))).toEqual([
      409,
      'conflict',
    ]);
    await stillFine();
  });
});

describe('strangers', () => {
  test('key guessing ends in 429, for its address alone', async () => {
    const guess = (key: string) => target.ask('GET', '/v1/jobs', { key, from: '127.0.0.66' });
    const guesses = [ADMIN.slice(0, -1), `${ADMIN}x`, ADMIN.toUpperCase(), 'null', '*', "' OR ''='"];
    for (const key of guesses) expect((await guess(key)).status).toBe(401);
    const answers = await Promise.all(Array.from({ length: 150 }, (_, i) => guess(`ntaa_${i}`)));
    const statuses = answers.map(({ status }) => status);
    expect(new Set(statuses)).toEqual(new Set([401, 429]));
    expect(statuses.filter((status) => status === 401).length).toBeLessThanOrEqual(100 - guesses.length);
    // Who has a key is let in, from there too.
    expect((await target.ask('GET', '/v1/jobs', { from: '127.0.0.66' })).status).toBe(200);
    await stillFine();
  });

  test("another tenant's ids do not exist", async () => {
    const tenant = await target.ask('POST', '/v1/tenants', { body: { name: 'stranger' } });
    const made = await target.ask('POST', '/v1/api-keys', {
      body: { name: 'theirs', scopes: ['admin'], tenant: tenant.body.id },
    });
    const key = (made.body as { secret?: string }).secret!;
    const mine = (await uploads.get('images')!).body.id!;
    const webhook = await target.ask('POST', '/v1/webhooks', {
      body: { url: 'https://example.com/', events: ['*'] },
    });
    for (const [method, path] of [
      ['GET', `/v1/datasets/${mine}`],
      ['GET', `/v1/datasets/${mine}/report`],
      ['DELETE', `/v1/datasets/${mine}`],
      ['GET', `/v1/webhooks/${webhook.body.id}/deliveries`],
      ['POST', `/v1/webhooks/${webhook.body.id}/ping`],
      ['DELETE', `/v1/webhooks/${webhook.body.id}`],
    ] as const)
      expect(codes(await target.ask(method, path, { key }))).toEqual([404, 'not-found']);
    const job = { kind: 'adapt', task: 'classification', dataset: mine };
    const refused = await target.ask('POST', '/v1/jobs', { key, body: job });
    expect(refused.body.errors![0]!.code).toBe('unknown-dataset');
    expect((await target.ask('GET', '/v1/tenants', { key })).status).toBe(403);
    await stillFine();
  });
});

describe('fuzzing', () => {
  const paths = ['/v1/jobs', '/v1/uploads', '/v1/webhooks', '/v1/tenants', '/v1/api-keys', '/v1/datasets'];
  /** JSON that is nearly right more often than chance would have it. */
  const words = fc.constantFrom('kind', 'adapt', 'pretrain', 'task', 'classification', 'dataset', 'budget', 'url', 'events', 'size', 'name', 'scopes', 'quotas', 'tenant', 'upload', '__proto__', 'constraints', 'metadata', 'seed'); // prettier-ignore
  const body = fc.letrec((tie) => ({
    value: fc.oneof({ depthSize: 'small' }, words, fc.string(), fc.double(), fc.integer(), fc.boolean(), fc.constant(null), tie('object'), fc.array(tie('value'), { maxLength: 3 })), // prettier-ignore
    object: fc.dictionary(fc.oneof(words, fc.string()), tie('value'), { maxKeys: 6, noNullPrototype: true }),
  })).value;

  test('JSON of every shape is answered, never with a fault of ours', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths), body, async (path, value) => {
        const { status, text } = await target.ask('POST', path, { body: value });
        expect(status < 500, `${status} ${text}`).toBe(true);
      }),
      { numRuns: 150, interruptAfterTimeLimit: 6000 },
    );
    await stillFine();
  });

  test('so are URLs', async () => {
    const piece = fc.oneof(words, fc.string().map(encodeURIComponent), fc.constantFrom('..', '%2e', '%00', '%ff', '?', '&', '=', 'limit', 'after')); // prettier-ignore
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths), fc.array(piece, { maxLength: 5 }), async (path, pieces) => {
        const { status, text } = await target.ask('GET', `${path}/${pieces.join('/')}`);
        expect(status < 500, `${status} ${text}`).toBe(true);
      }),
      { numRuns: 100, interruptAfterTimeLimit: 4000 },
    );
    await stillFine();
  });
});

describe('archives', () => {
  test.each(ARCHIVES)('$name', async ({ name, refused, becomes, reports = [] }) => {
    const upload = await uploads.get(name)!;
    if (refused) {
      expect(codes(upload), upload.text).toEqual([...refused]);
      return stillFine();
    }
    expect(upload.status, upload.text).toBe(202);
    const id = upload.body.id!;
    const { body } = await target.settled(id);
    const { status, report } = body as unknown as {
      status: string;
      report: { error: { code: string } | null; skipped: { code: string }[]; warnings: { code: string }[] };
    };
    expect(status === 'invalid' ? report.error!.code : status, JSON.stringify(report).slice(0, 2000)).toBe(
      becomes,
    );
    const found = [...report.skipped, ...report.warnings].map(({ code }) => code);
    expect(found).toEqual(expect.arrayContaining([...reports]));
    const left = async (): Promise<string[]> => target.files(`objects/datasets/${id}`);
    if (status === 'invalid') await expect.poll(left, { timeout: 10_000 }).toEqual([]);
    else expect((await target.ask('DELETE', `/v1/datasets/${id}`)).status).toBe(204);
    await stillFine();
  });
});

describe('images', () => {
  let found: Map<string, string>;
  beforeAll(async () => {
    const { body } = await target.settled((await uploads.get('images')!).body.id!);
    const { report } = body as unknown as {
      report: Record<'skipped' | 'warnings', { path: string; code: string }[]>;
    };
    found = new Map([...report.skipped, ...report.warnings].map(({ path, code }) => [path, code]));
  });
  test.each(IMAGES)('%s: %s', (name, outcome) => {
    expect(found.get(`odd/${name}.png`) ?? 'accepted').toBe(outcome);
  });
});

describe('predictions, which the API itself decodes', () => {
  const ok = [200, undefined] as const;
  const no = [422, 'image-unreadable'] as const;
  const jpeg = (width: number, height: number, progressive: boolean) =>
    sharp({ create: { width, height, channels: 3, background: '#abc' } })
      .jpeg({ progressive })
      .toBuffer();
  let path: string;
  beforeAll(async () => {
    const api = { db: target.db } as ApiStack;
    const file = { ...(await target.put('model.onnx', meanColourOnnx())), filename: 'model.onnx' };
    const model = await succeedWithModel(api, await claimedJob(api), {
      onnx: { ...file, contentType: 'application/octet-stream' },
    });
    path = `/v1/models/${model}/predict`;
  });

  test.each([
    ['an image', image, ok],
    ['49 megapixels in rows', () => pngBomb(7000, 7000, 8), ok],
    ['36 megapixels interlaced', () => pngBomb(6000, 6000, 8, true), ok],
    ['49 megapixels interlaced', () => pngBomb(7000, 7000, 8, true), no],
    ['49 megapixels interlaced, of 16 bits', () => deepBomb(7000, 7000), no],
    ['900 megapixels', () => pngBomb(30_000, 30_000), no],
    ['24 megapixels of JPEG', () => jpeg(6000, 4000, false), ok],
    ['48 megapixels of progressive JPEG', () => jpeg(8000, 6000, true), no],
    ['text that unpacks to 100 MB', textBomb, ok],
    ['SVG', () => Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'), no],
    ['nothing', () => Buffer.alloc(0), no],
    ['a truncated image', () => image().subarray(0, -60), no],
  ] as const)('%s', async (_, make, answer) => {
    const got = await target.form(path, [part('file', await make(), 'x.png')]);
    expect(codes(got), got.text).toEqual([...answer]);
    await stillFine();
  });

  test('many at once', async () => {
    const large = part('file', Buffer.alloc(19e6, 1), 'x.png');
    const answers = await Promise.all(Array.from({ length: 12 }, () => target.form(path, [large])));
    for (const answer of answers) expect([422, 429]).toContain(answer.status);
    const bomb = part('file', pngBomb(6000, 6000, 8, true), 'x.png');
    const decoded = await Promise.all(Array.from({ length: 6 }, () => target.form(path, [bomb])));
    expect(decoded.map(({ status }) => status)).toEqual(decoded.map(() => 200));
    await stillFine();
  });
});

describe('afterwards', () => {
  test.each(SLOW.map(([name, , begins], i) => [name, begins, i] as const))(
    'slow: %s',
    async (_, begins, i) => {
      const answer = await slow[i]!;
      expect(answer).toMatch(begins ?? /^$/);
      await stillFine();
    },
  );

  test('no secret was written to logs, events, queue or errors', async () => {
    expect(target.secrets.size).toBeGreaterThanOrEqual(6);
    const said = target.said();
    // The logs are there, and say who asked for what.
    expect(said).toMatch(/"request_id":"req_/);
    const kept = [said, target.refusals.join('\n'), await rowsOf(target.sql)];
    for (const secret of target.secrets)
      for (const text of kept) expect(text.includes(secret), secret).toBe(false);
    expect(kept.join()).not.toMatch(/Bearer (?!KEY|\[secret\])/i);
  });

  test('nothing is left in storage or scratch', async () => {
    const { body } = await uploads.get('images')!;
    expect((await target.ask('DELETE', `/v1/datasets/${body.id}`)).status).toBe(204);
    // Uploads in parts wait for theirs.
    const objects = async () =>
      (await target.files('objects')).filter((name) => !/^(~parts|models)\//.test(name));
    await expect.poll(objects, { timeout: 15_000 }).toEqual([]);
    expect(await target.files('scratch')).toEqual([]);
  });

  test("the API's memory did not grow beyond 300 MB", async () => {
    const peak = await target.peakMemory();
    console.log(`API: ${Math.round(idle / 1e6)} MB at first, ${Math.round(peak / 1e6)} MB at most`);
    expect(peak).toBeLessThan(300e6);
  });
});
