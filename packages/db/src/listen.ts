/** LISTEN on one connection of its own, for all subscribers of the process, made again when it is lost. */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Database } from './types.js';

type Subscriber = Parameters<Database['listen']>[0];

export function listener(url: string, onError: (error: Error) => void) {
  const subscribers = new Set<Subscriber>();
  const closing = new AbortController();
  let client: pg.Client | null = null;
  let connecting: Promise<void> | null = null;

  function deliver(channel: string, payload: string | undefined): void {
    for (const subscriber of subscribers)
      if (channel === 'ntaa_job') subscriber.job?.(payload || null);
      else subscriber.outbox?.();
  }

  async function connect(): Promise<void> {
    const fresh = new pg.Client({ connectionString: url, keepAlive: true, application_name: 'ntaa listen' });
    fresh.on('error', onError);
    fresh.on('notification', ({ channel, payload }) => deliver(channel, payload));
    try {
      await fresh.connect();
      await fresh.query('LISTEN ntaa_job; LISTEN ntaa_outbox');
    } catch (error) {
      await fresh.end().catch(() => undefined);
      throw error;
    }
    if (closing.signal.aborted) return fresh.end();
    client = fresh;
    fresh.on('end', () => {
      client = null;
      if (!closing.signal.aborted) connecting = reconnect();
    });
  }

  async function reconnect(): Promise<void> {
    for (let wait = 100; !closing.signal.aborted; wait = Math.min(wait * 2, 5000)) {
      try {
        await connect();
        // What happened meanwhile was not heard.
        deliver('ntaa_job', undefined);
        deliver('ntaa_outbox', undefined);
        return;
      } catch (error) {
        onError(error as Error);
        await sleep(wait, undefined, { signal: closing.signal, ref: false }).catch(() => undefined);
      }
    }
  }

  return {
    async listen(on: Subscriber): Promise<() => Promise<void>> {
      if (closing.signal.aborted) throw new Error('The database is closed');
      if (!client) {
        connecting ??= connect().finally(() => (connecting = null));
        await connecting;
      }
      subscribers.add(on);
      return () => Promise.resolve(void subscribers.delete(on));
    },
    async close(): Promise<void> {
      closing.abort();
      subscribers.clear();
      await connecting?.catch(() => undefined);
      await client?.end();
    },
  };
}
