/** The one place where Prisma is set up. Row locks and the database's clock need SQL; everything else is typed. */
import { PrismaPg } from '@prisma/adapter-pg';
import pg from 'pg';
import { direct, type Direct } from './direct.js';
import { Prisma, PrismaClient } from './generated/client.js';

export type Client = PrismaClient;
export type Tx = Prisma.TransactionClient;

/** Who waits longer for a row that another transaction holds gives up: every connection might wait for it in the end. */
const PATIENCE = 'SET lock_timeout = 30000';
/** The pool waits for it, which its type does not say. */
const onConnect = (client: pg.ClientBase) => client.query(PATIENCE);

/**
 * Prisma, and SQL beside it on the same connections. With `warm` all of them are opened at once and kept: a new one costs
 * Postgres a process and an empty cache, and many at once cost it the first second of every burst.
 */
export async function connect(
  url: string,
  connections: number,
  warm: boolean,
): Promise<{ db: Client; sql: Direct }> {
  const pool = new pg.Pool({
    ...{ connectionString: url, max: connections, connectionTimeoutMillis: 10_000 },
    ...({ onConnect } as object),
    ...(warm && { min: connections, idleTimeoutMillis: 0 }),
  });
  // A connection that is lost while nobody uses it is replaced when somebody does.
  pool.on('error', () => undefined);
  if (warm) {
    const all = await Promise.all(Array.from({ length: connections }, () => pool.connect()));
    for (const client of all) client.release();
  }
  const db = new PrismaClient({
    adapter: new PrismaPg(pool, { disposeExternalPool: true }),
    transactionOptions: { maxWait: 10_000, timeout: 30_000 },
  });
  return { db, sql: direct(pool) };
}

/** A contract value on its way into a JSON column. */
export const json = (value: unknown): Prisma.InputJsonValue => value as Prisma.InputJsonValue;

export const isUniqueViolation = (error: unknown): boolean =>
  error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002';
