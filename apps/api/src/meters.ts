/** What this process counts itself; what the database knows of all of them is read at a scrape (plugins/metrics.ts). */
import type { ObjectStore } from '@ntaa/storage';
import { ObjectMissing } from '@ntaa/storage';
import { Counter, Registry } from 'prom-client';

export interface Meters {
  readonly registry: Registry;
  /** Jobs taken back from workers that had stopped answering. */
  readonly leasesLost: Counter;
  /** Queue jobs that the queue had lost. */
  readonly requeued: Counter<'name'>;
  readonly storageErrors: Counter<'operation'>;
  readonly deliveries: Counter<'outcome'>;
}

export function createMeters(): Meters {
  const registry = new Registry();
  const registers = [registry];
  return {
    registry,
    leasesLost: new Counter({
      name: 'ntaa_leases_lost_total',
      help: 'Jobs taken back from workers that stopped answering',
      registers,
    }),
    requeued: new Counter({
      name: 'ntaa_queue_requeued_total',
      help: 'Queue jobs added again because the queue had lost them',
      labelNames: ['name'],
      registers,
    }),
    storageErrors: new Counter({
      name: 'ntaa_storage_errors_total',
      help: 'Operations on the object store that failed',
      labelNames: ['operation'],
      registers,
    }),
    deliveries: new Counter({
      name: 'ntaa_webhook_attempts_total',
      help: 'Attempts to deliver to webhooks',
      labelNames: ['outcome'],
      registers,
    }),
  };
}

/** The same store; operations that fail are counted. What is missing, or a body that breaks off, is no fault of its. */
export function counted(store: ObjectStore, { storageErrors }: Meters): ObjectStore {
  const watch = <T extends object>(target: T): T =>
    new Proxy(target, {
      get(from, name): unknown {
        const value: unknown = Reflect.get(from, name);
        if (name === 'parts') return watch(value as object);
        if (typeof value !== 'function') return value;
        return (...parameters: unknown[]): unknown => {
          const result: unknown = Reflect.apply(value, from, parameters);
          if (result instanceof Promise)
            result.catch((error: unknown) => {
              const ours = !(error instanceof ObjectMissing) && !isCaller(error);
              if (ours) storageErrors.inc({ operation: String(name) });
            });
          return result;
        };
      },
    });
  return watch(store);
}

const isCaller = (error: unknown): boolean => {
  const { code = '', name = '' } = error as { code?: string; name?: string };
  return code === 'ERR_STREAM_PREMATURE_CLOSE' || ['ProblemError', 'AbortError', 'PartSize'].includes(name);
};
