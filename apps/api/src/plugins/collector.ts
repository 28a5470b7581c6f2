/**
 * Deletes objects that were given up: the database names them (packages/db, garbage.ts) in the transactions that give
 * them up, and what is named stays named until it is deleted. And what killed processes had begun to write. Safe to run in several servers at once.
 */
import { killPoint } from '@ntaa/config';
import type { StoredUpload } from '@ntaa/db';
import { repeat, type Loop } from '../repeat.js';
import type { App, Deps, Limits } from '../types.js';

/** Asked for at a time. */
const BATCH = 100;
/** Between two looks, at least: what wakes it is mostly not garbage. */
const REST_MS = 1000;

export function useCollector(app: App, { db, store }: Deps, { collectMs }: Limits): void {
  const remove = async (key: string): Promise<void> => {
    await (key.endsWith('/') ? store.deletePrefix(key) : store.delete(key));
    killPoint('api.garbage-deleted');
  };
  const forget = async (upload: StoredUpload) => {
    await store.parts.abort(upload);
    await store.delete(upload.key);
  };
  let loop: Loop | undefined;
  let stop: (() => Promise<void>) | undefined;
  app.addHook('onReady', async () => {
    const started = repeat(
      collectMs,
      app.log,
      'collector',
      async () => {
        while ((await db.garbage.collect(BATCH, remove)) === BATCH);
        while ((await db.uploads.collect(BATCH, forget)) === BATCH);
        await store.sweep();
      },
      REST_MS,
    );
    loop = started;
    stop = await db.listen({ outbox: () => started.wake() });
  });
  app.addHook('onClose', async () => {
    await stop?.();
    await loop?.close();
  });
}
