/** Tells event streams that a job's log has grown: one listening connection for all of them. */
import { EventEmitter } from 'node:events';
import type { App, Deps } from '../types.js';

export interface JobFeed {
  /** Calls `wake` whenever the job may have changed, until the returned function is called. */
  watch(id: string, wake: () => void): () => void;
  /** Aborts when the server begins to close. */
  readonly closing: AbortSignal;
}

export async function openJobFeed(app: App, { db }: Deps): Promise<JobFeed> {
  const emitter = new EventEmitter().setMaxListeners(0);
  const closing = new AbortController();
  const stop = await db.listen({
    job: (id) => {
      if (id !== null) emitter.emit(id);
      else for (const name of emitter.eventNames()) emitter.emit(name);
    },
  });
  app.addHook('preClose', async () => closing.abort());
  app.addHook('onClose', stop);
  return {
    closing: closing.signal,
    watch(id, wake) {
      emitter.on(id, wake);
      return () => emitter.off(id, wake);
    },
  };
}
