/**
 * Objects to be deleted. The transaction that gives an object up writes its key here, so that nothing is forgotten when
 * the process dies or the store is away; a collector deletes them. Nothing is ever deleted for merely being unknown:
 * several services may share a bucket.
 */
import type { Client, Tx } from './client.js';
import type { Direct } from './direct.js';
import type { JobRow } from './rows.js';
import type { Garbage } from './types.js';

/** Where an attempt at a job puts its model or supernet. */
export const outputFolder = (job: Pick<JobRow, 'kind' | 'id' | 'attempt'>): string =>
  `${job.kind === 'pretrain' ? 'supernets' : 'models'}/${job.id}-${job.attempt}/`;
/** Where the attempts at a job keep its checkpoints. */
export const jobFolder = (id: string): string => `jobs/${id}/`;
/** Where pieces of a job keep what they are made from, and what is made. */
export const piecesFolder = (id: string): string => `${jobFolder(id)}pieces/`;
/** Everything of a dataset but an archive that came in parts. */
export const datasetFolder = (id: string): string => `datasets/${id}/`;

/** To be deleted after so many seconds; keys that end in '/' stand for all below them. */
export async function discard(tx: Tx | Client, keys: readonly string[], seconds = 0): Promise<void> {
  for (const key of keys)
    await tx.$executeRaw`
      INSERT INTO garbage (key, due) VALUES (${key}, now() + ${seconds} * interval '1 second')
      ON CONFLICT (key) DO UPDATE SET due = EXCLUDED.due`;
}

export function garbage(db: Client, sql: Direct): Garbage {
  return {
    add: (keys, seconds) => discard(db, keys, seconds),
    async collect(limit, remove) {
      const rows = await sql.$queryRaw<{ key: string; due: Date }[]>`
        SELECT key, due FROM garbage WHERE due <= now() ORDER BY due LIMIT ${limit}`;
      for (const { key, due } of rows) {
        try {
          await remove(key);
        } catch (error) {
          // What cannot be deleted must not keep the rest from it.
          await discard(db, [key], 60);
          throw error;
        }
        // Given up once more meanwhile: it stays for the next time.
        await db.garbage.deleteMany({ where: { key, due } });
      }
      return rows.length;
    },
  };
}
