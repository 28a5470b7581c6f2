/**
 * Applies prisma/migrations/NAME/migration.sql, in the order of their names, as `prisma migrate deploy` would: the same
 * table, checksums and advisory lock, so that either may be used on a database. (Prisma's own command needs an engine
 * that it downloads.)
 */
import { createHash, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import type { Client } from 'pg';

const FOLDER = new URL('../../../prisma/migrations/', import.meta.url);
/** The key Prisma takes for its own runs. */
const LOCK = 72707369;
const TABLE = `CREATE TABLE IF NOT EXISTS _prisma_migrations (
  id VARCHAR(36) PRIMARY KEY NOT NULL,
  checksum VARCHAR(64) NOT NULL,
  finished_at TIMESTAMPTZ,
  migration_name VARCHAR(255) NOT NULL,
  logs TEXT,
  rolled_back_at TIMESTAMPTZ,
  started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  applied_steps_count INTEGER NOT NULL DEFAULT 0)`;

/** Brings the database up to this version; returns the names of what was applied. Safe to call from many processes. */
export async function migrate(client: Client, folder: URL = FOLDER): Promise<string[]> {
  await client.query('SELECT pg_advisory_lock($1)', [LOCK]);
  try {
    await client.query(TABLE);
    const applied = await appliedMigrations(client);
    const fresh: string[] = [];
    for (const { name, sql, checksum } of await readMigrations(folder)) {
      const before = applied.get(name);
      if (before === undefined) {
        await apply(client, name, sql, checksum);
        fresh.push(name);
      } else if (before !== checksum)
        throw new Error(
          `Migration ${name} was changed after it had been applied to this database. ` +
            'Restore the file, and put the change into a new migration.',
        );
    }
    return fresh;
  } finally {
    await client.query('SELECT pg_advisory_unlock($1)', [LOCK]);
  }
}

async function readMigrations(folder: URL): Promise<{ name: string; sql: string; checksum: string }[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  return Promise.all(
    names.sort().map(async (name) => {
      const sql = await readFile(new URL(`${name}/migration.sql`, folder), 'utf8');
      return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}

async function appliedMigrations(client: Client): Promise<Map<string, string>> {
  const { rows } = await client.query<{ migration_name: string; checksum: string; finished: boolean }>(
    'SELECT migration_name, checksum, finished_at IS NOT NULL AS finished FROM _prisma_migrations WHERE rolled_back_at IS NULL',
  );
  const broken = rows.find((row) => !row.finished);
  if (broken)
    throw new Error(
      `Migration ${broken.migration_name} failed half-way in this database. Repair it, then run ` +
        `\`prisma migrate resolve\` for it.`,
    );
  return new Map(rows.map((row) => [row.migration_name, row.checksum]));
}

async function apply(client: Client, name: string, sql: string, checksum: string): Promise<void> {
  await client.query('BEGIN');
  try {
    await client.query(sql);
    await client.query(
      `INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count)
       VALUES ($1, $2, now(), $3, 1)`,
      [randomUUID(), checksum, name],
    );
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw new Error(`Migration ${name} could not be applied: ${(error as Error).message}`, { cause: error });
  }
}
