/**
 * Tells event streams that a job's log has grown: one listening connection for all of them, and one question to the
 * database for all that are equally far.
 */
import type { JobEvent } from '@ntaa/contracts';
import { EventEmitter } from 'node:events';
import type { App, Deps } from '../types.js';

/** The text of a page of events, as streams send it. */
interface Frames {
  readonly text: string;
  /** Seq of the last event. */
  readonly last: number;
  /** Nothing will ever follow. */
  readonly done: boolean;
  readonly more: boolean;
}
export interface JobFeed {
  /** Calls `wake` whenever the job may have changed, until the returned function is called. */
  watch(id: string, wake: () => void): () => void;
  /** What was written after the event `after`; null: there is no such job. */
  read(tenant: string, id: string, after: number): Promise<Frames | null>;
  /** Aborts when the server begins to close. */
  readonly closing: AbortSignal;
}

const PAGE = 200;
const frame = (event: JobEvent): string =>
  `id: ${event.seq}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;

export async function openJobFeed(app: App, { db }: Deps): Promise<JobFeed> {
  const emitter = new EventEmitter().setMaxListeners(0);
  const closing = new AbortController();
  /** Questions in the air, by job. One that was asked before the job changed may not be joined afterwards. */
  const asked = new Map<string, Map<string, Promise<Frames | null>>>();
  const changed = (id: string): void => {
    asked.delete(id);
    emitter.emit(id);
  };
  const stop = await db.listen({
    job: (id) => {
      if (id !== null) changed(id);
      else for (const name of emitter.eventNames()) changed(String(name));
    },
  });
  app.addHook('preClose', async () => closing.abort());
  app.addHook('onClose', stop);

  async function ask(tenant: string, id: string, after: number): Promise<Frames | null> {
    const page = await db.jobs.events(tenant, id, { after, limit: PAGE });
    if (!page) return null;
    const last = page.data.at(-1);
    return {
      text: page.data.map(frame).join(''),
      last: last?.seq ?? after,
      done: last?.type === 'done',
      more: page.has_more,
    };
  }
  return {
    closing: closing.signal,
    watch(id, wake) {
      emitter.on(id, wake);
      return () => emitter.off(id, wake);
    },
    read(tenant, id, after) {
      const ofJob = asked.get(id) ?? new Map<string, Promise<Frames | null>>();
      asked.set(id, ofJob);
      const key = `${tenant} ${after}`;
      const joined = ofJob.get(key);
      if (joined) return joined;
      const answer = ask(tenant, id, after).finally(() => {
        ofJob.delete(key);
        if (ofJob.size === 0 && asked.get(id) === ofJob) asked.delete(id);
      });
      ofJob.set(key, answer);
      return answer;
    },
  };
}
