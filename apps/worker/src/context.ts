import type { Config, RunningEngine } from '@ntaa/config';
import type { Database } from '@ntaa/db';
import type { ObjectStore } from '@ntaa/storage';
import type { Tracing } from '@ntaa/tracing';
import type { Logger } from 'pino';

/** What every handler of a worker stands on. The process entry opens and closes it. */
export interface Context {
  readonly config: Config;
  readonly db: Database;
  readonly store: ObjectStore;
  readonly log: Logger;
  /** null: nothing is traced. */
  readonly tracing: Tracing | null;
  /** What this worker's trainers run on. */
  readonly engine: RunningEngine;
  /** Names this worker in leases: HOST-PID. */
  readonly worker: string;
  /** GPUs, a trainer for each; empty: one trainer, without a GPU of its own. */
  readonly gpus: readonly string[];
  /** Folder for scratch folders. */
  readonly scratch: string;
}
