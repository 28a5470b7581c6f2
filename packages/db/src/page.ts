import { UnknownCursor, type Page, type PageOptions } from './types.js';

/** limit + 1: one row more than wanted tells whether there is a next page. */
export function take(options: PageOptions, fallback = 20, most = 100): number {
  return Math.min(Math.max(Math.trunc(options.limit ?? fallback), 1), most) + 1;
}

/** The page out of `rows`, fetched by `take`. */
export function pageOf<R, T>(
  rows: readonly R[],
  taken: number,
  cursor: (row: R) => string,
  map: (row: R) => T,
): Page<T> {
  const kept = rows.slice(0, taken - 1);
  const more = rows.length === taken;
  return {
    object: 'list',
    data: kept.map(map),
    has_more: more,
    next_cursor: more ? cursor(kept[kept.length - 1]!) : null,
  };
}

/**
 * Newest first: ids sort by the time they were made. `count` says how many rows of the list have an id: a cursor is the
 * id of one of them.
 */
export async function newestFirst(
  tenant: string,
  { after, ...options }: PageOptions,
  count: (id: string) => Promise<number>,
) {
  if (after !== undefined && (await count(after)) === 0) throw new UnknownCursor();
  return {
    where: { tenantId: tenant, ...(after === undefined ? {} : { id: { lt: after } }) },
    orderBy: { id: 'desc' as const },
    take: take(options),
  };
}
