import type pg from 'pg';

/** Secrets that have to be kept as they are: they sign, or stand for themselves in a URL. */
const SIGNING = new Set(['webhooks.secret', 'uploads.secret']);

/** Every row of every table, the queue's too, as text, without the columns that hold secrets on purpose. */
export async function rowsOf(sql: pg.Pool): Promise<string> {
  const { rows } = await sql.query<{ schema: string; name: string }>(
    `SELECT table_schema AS schema, table_name AS name FROM information_schema.tables
     WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'`,
  );
  const texts = [];
  for (const { schema, name } of rows) {
    const table = await sql.query<Record<string, unknown>>(`SELECT * FROM "${schema}"."${name}"`);
    for (const row of table.rows)
      texts.push(
        JSON.stringify(row, (key, value: unknown) => (SIGNING.has(`${name}.${key}`) ? undefined : value)),
      );
  }
  return texts.join('\n');
}
