/**
 * SQL without Prisma, on the same connections, for what is asked many times a second: Prisma takes a millisecond of the
 * processor for a statement that Postgres answers in a tenth of one. Statements are prepared once per connection.
 */
import type pg from 'pg';

/** What Prisma's clients and transactions can do, too. */
export interface Queries {
  $queryRaw<T>(text: TemplateStringsArray, ...values: unknown[]): PromiseLike<T>;
}
export interface Direct extends Queries {
  transaction<T>(work: (tx: Queries) => Promise<T>): Promise<T>;
}

/** By the literal itself, which is one object for every place in the code. */
const statements = new WeakMap<TemplateStringsArray, { name: string; text: string }>();
let named = 0;

function statementOf(parts: TemplateStringsArray): { name: string; text: string } {
  let statement = statements.get(parts);
  if (!statement) {
    const text = parts.reduce((before, part, i) => `${before}$${i}${part}`);
    statement = { name: `ntaa_${(named += 1)}`, text };
    statements.set(parts, statement);
  }
  return statement;
}

const on = (client: pg.Pool | pg.PoolClient): Queries => ({
  async $queryRaw<T>(parts: TemplateStringsArray, ...values: unknown[]): Promise<T> {
    return (await client.query({ ...statementOf(parts), values })).rows as T;
  },
});

export function direct(pool: pg.Pool): Direct {
  return {
    ...on(pool),
    async transaction(work) {
      const client = await pool.connect();
      let broken: Error | undefined;
      // Lost between two statements: the next one says so; without a listener it would end the process.
      const onError = (error: Error) => (broken = error);
      client.on('error', onError);
      try {
        await client.query('BEGIN');
        const result = await work(on(client));
        await client.query('COMMIT');
        return result;
      } catch (error) {
        await client.query('ROLLBACK').catch((lost: Error) => (broken = lost));
        throw error;
      } finally {
        client.off('error', onError);
        client.release(broken);
      }
    },
  };
}
