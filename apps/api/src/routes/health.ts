import { Type } from '@ntaa/contracts';
import type { App, Deps } from '../types.js';

/** A dependency that does not answer within so many milliseconds counts as down. */
const PING_MS = 2000;
const Check = Type.Union([Type.Literal('ok'), Type.Literal('down')]);
const Readiness = Type.Object({
  status: Check,
  checks: Type.Object({ db: Check, queue: Check, storage: Check }),
});

export function healthRoutes(app: App, { db, queue, store }: Deps): void {
  app.get(
    '/healthz',
    {
      schema: {
        tags: ['service'],
        summary: 'Is the process alive?',
        security: [],
        response: { 200: Type.Object({ status: Type.Literal('ok') }) },
      },
    },
    async () => ({ status: 'ok' as const }),
  );
  app.get(
    '/readyz',
    {
      schema: {
        tags: ['service'],
        summary: 'Can it serve? Names what is down',
        security: [],
        response: { 200: Readiness, 503: Readiness },
      },
    },
    async (request, reply) => {
      const ask = async (name: string, ping: () => Promise<void>): Promise<'ok' | 'down'> => {
        let timer: NodeJS.Timeout | undefined;
        const late = new Promise<never>((_, reject) => {
          timer = setTimeout(() => reject(new Error(`no answer in ${PING_MS} ms`)), PING_MS);
        });
        try {
          await Promise.race([ping(), late]);
          return 'ok';
        } catch (error) {
          request.log.warn({ err: error, dependency: name }, 'not ready');
          return 'down';
        } finally {
          clearTimeout(timer);
        }
      };
      const [d, q, s] = await Promise.all([
        ask('db', () => db.ping()),
        ask('queue', () => queue.ping()),
        ask('storage', () => store.ping()),
      ]);
      const status = d === 'ok' && q === 'ok' && s === 'ok' ? ('ok' as const) : ('down' as const);
      return reply
        .code(status === 'ok' ? 200 : 503)
        .send({ status, checks: { db: d, queue: q, storage: s } });
    },
  );
}
