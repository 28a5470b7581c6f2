import { once } from 'node:events';
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { databaseOf, openDependency, queueOf, StartError, storageOf } from './index.js';

const databaseUrl = 'postgres://user:hunter2@db/ntaa';
const redis = queueOf({ redisUrl: 'redis://:hunter2@127.0.0.1:1', databaseUrl });
const s3 = { bucket: 'models', endpoint: 'http://s3:9000', region: 'r', credentials: null };
const bucket = storageOf({ dataDir: '/data', s3 });

/** Connects without success, as a client does: it tells of the trouble, then gives up in other words. */
async function refused(onError: (error: Error) => void): Promise<never> {
  const [error] = (await once(
    connect(1, '127.0.0.1').on('error', () => undefined),
    'error',
  )) as [Error];
  onError(error);
  throw new Error('The queue cannot be used', { cause: new Error('gave up') });
}

test('a server that cannot be reached: variable, address, cause, remedy, and nothing secret', async () => {
  const said: string[] = [];
  const failure = openDependency(redis, (message) => said.push(message), refused);
  await expect(failure).rejects.toThrow(StartError);
  await expect(failure).rejects.toThrow(
    'Redis at 127.0.0.1:1 (REDIS_URL) cannot be used: nothing listens there. Start the server, or correct REDIS_URL.',
  );
  expect(said).toEqual([]);
});

test('one that never answers is given up', async () => {
  const began = Date.now();
  const failure = openDependency(bucket, () => undefined, () => new Promise(() => undefined)); // prettier-ignore
  await expect(failure).rejects.toThrow(/^S3 bucket models at s3:9000 \(S3_ENDPOINT\).* does not answer/);
  expect(Date.now() - began).toBeLessThan(8000);
});

test('lost later on, it is missed with one warning', async () => {
  const said: string[] = [];
  let lose: (error: Error) => void = () => undefined;
  const open = (onError: typeof lose) => Promise.resolve(void (lose = onError));
  await openDependency(redis, (message) => said.push(message), open);
  for (let i = 0; i < 3; i++) await expect(refused(lose)).rejects.toThrow();
  expect(said).toEqual([expect.stringMatching(/^Redis at .* is lost: nothing listens there/)]);
});

const failing = (properties: object, message = '') => Object.assign(new Error(message), properties);
test.each([
  [databaseOf({ databaseUrl }), { code: '28P01' }, /refuses the user or the password.*DATABASE_URL/],
  [databaseOf({ databaseUrl }), { code: 'ENOTFOUND' }, /Postgres at db:5432.*host is not known/],
  [queueOf({ redisUrl: null, databaseUrl }), { message: 'timeout expired' }, /DATABASE_URL.*not answer/],
  [redis, { message: 'WRONGPASS invalid username-password pair' }, /refuses the user or the password/],
  [redis, { message: 'The disk is made of cheese.\nmore' }, /cannot be used: The disk is made of cheese\. /],
  [bucket, { $metadata: { httpStatusCode: 404 } }, /no such bucket.*S3_BUCKET/],
  [bucket, { $metadata: { httpStatusCode: 403 } }, /AWS_SECRET_ACCESS_KEY/],
  [storageOf({ dataDir: '/data', s3: null }), { code: 'EROFS' }, /NTAA_DATA_DIR \/data.*read-only/],
])('%o: %o', async (dependency, properties, message) => {
  const open = () => Promise.reject(failing(properties));
  await expect(openDependency(dependency, () => undefined, open)).rejects.toThrow(message);
});
