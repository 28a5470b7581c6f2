/** Whatever a creating request makes and the answer kept under its Idempotency-Key are there together, or not at all. */
import pg from 'pg';
import request from 'supertest';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  adaptRequest,
  builtinSupernet,
  readyDataset,
  startApi,
  type ApiStack,
} from '../../../test/setup/api.js';

let api: ApiStack;
let sql: pg.Pool;
beforeAll(async () => {
  api = await startApi();
  await builtinSupernet(api);
  sql = new pg.Pool({ connectionString: api.databaseUrl, max: 1 });
  await sql.query(`
    CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'died before it had answered'; END $$`);
});
afterAll(async () => {
  await sql?.end();
  await api?.close();
});

const KINDS = [
  ['/v1/jobs', 'jobs', async () => adaptRequest(await readyDataset(api))],
  ['/v1/tenants', 'tenants', () => ({ name: 'acme' })],
  ['/v1/api-keys', 'api_keys', () => ({ name: 'ci', scopes: ['read'] })],
  ['/v1/webhooks', 'webhooks', () => ({ url: 'http://127.0.0.1:9/', events: ['*'] })],
  ['/v1/uploads', 'uploads', () => ({ size: 1000 })],
] as const;

test.each(KINDS)(
  'POST %s, interrupted before its answer is kept, has made nothing',
  async (path, table, make) => {
    const body = await make();
    const post = () =>
      request(api.url)
        .post(path)
        .set({
          authorization: `Bearer ${api.keys.admin}`,
          'idempotency-key': `interrupted ${table}`.replace(' ', '-'),
        })
        .send(body);
    const rows = async () => (await sql.query(`SELECT count(*)::int AS n FROM ${table}`)).rows[0].n as number;
    const before = await rows();
    await sql.query(
      `CREATE TRIGGER die BEFORE UPDATE ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION die()`,
    );
    expect((await post()).status).toBe(500);
    await sql.query(`DROP TRIGGER die ON idempotency_keys`);
    expect(await rows()).toBe(before);

    const first = await post();
    expect([201, 202]).toContain(first.status);
    const again = await post();
    expect(again.headers['idempotency-replayed']).toBe('true');
    expect(again.headers['location']).toBe(first.headers['location']);
    // What is a secret is shown once.
    expect(again.body).toEqual({ ...first.body, ...('secret' in first.body ? { secret: null } : {}) });
    expect(await rows()).toBe(before + 1);
  },
);

test.each(KINDS)(
  'POST %s, left by a process that died, is made by who asks half a minute later',
  async (path, table, make) => {
    const body = await make();
    const post = () =>
      request(api.url)
        .post(path)
        .set({ authorization: `Bearer ${api.keys.admin}`, 'idempotency-key': 'left' })
        .send(body);
    const rows = async () => (await sql.query(`SELECT count(*)::int AS n FROM ${table}`)).rows[0].n as number;
    const left = (seconds: number) =>
      sql.query(
        `UPDATE idempotency_keys SET status = NULL, response = NULL, created_at = now() - $2 * interval '1 second'
         WHERE route = $1 AND key = 'left'`,
        [`POST ${path}`, seconds],
      );
    expect([201, 202]).toContain((await post()).status);
    await left(25);
    expect((await post()).status).toBe(409);
    await left(31);
    const before = await rows();
    const made = await Promise.all([post(), post()]);
    expect(made.some(({ status }) => status < 300)).toBe(true);
    expect(await rows()).toBe(before + 1);
  },
);
