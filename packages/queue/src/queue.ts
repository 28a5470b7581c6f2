import type { QueueJobName, QueuePayload } from '@ntaa/contracts';

/** Exactly one of the two carries the queue: Redis where it is configured, else Postgres. */
export interface QueueOptions {
  readonly redisUrl?: string | null;
  readonly databaseUrl: string;
  /** Called with connection trouble; the queue reconnects by itself. */
  readonly onError?: (error: Error) => void;
}
export interface AddOptions {
  /** Id of the queue job: while one with this id is waiting or being worked on, adding it again does nothing. */
  readonly dedupe: string;
}
/** Rejecting makes the queue try again by the catalogue's rule. The signal aborts at the timeout and at close(). */
export type Handler<N extends QueueJobName> = (
  payload: QueuePayload<N>,
  signal: AbortSignal,
) => Promise<void>;
export interface Closable {
  /** Takes no new jobs, aborts the running ones' signal, and resolves when their handlers have ended. */
  close(): Promise<void>;
}
/** What hands a process its queue jobs. */
export interface Intake extends Closable {
  /** Takes no new jobs, those being handled go on. One that was being fetched may still come. */
  pause(): Promise<void>;
  resume(): Promise<void>;
}
export interface QueueCounts {
  readonly waiting: number;
  readonly active: number;
  readonly delayed: number;
}

/**
 * Wakes workers; it is not the truth. At-least-once: a handler must claim its work in the database and do nothing
 * when the claim is refused. Finished and failed queue jobs are forgotten, so that their id can be added again.
 */
export interface Queue {
  readonly backend: 'redis' | 'postgres';
  add<N extends QueueJobName>(name: N, payload: QueuePayload<N>, options: AddOptions): Promise<void>;
  /** Starts `concurrency` handlers in this process. A second handler of the same name is an error. */
  work<N extends QueueJobName>(name: N, concurrency: number, handler: Handler<N>): Promise<Intake>;
  /** Those of the ids whose queue jobs are waiting, delayed or active. */
  present(name: QueueJobName, ids: readonly string[]): Promise<ReadonlySet<string>>;
  counts(): Promise<Record<QueueJobName, QueueCounts>>;
  /** Throws when the backend does not answer. */
  ping(): Promise<void>;
  /** Deletes every queue job. For tests. */
  obliterate(): Promise<void>;
  /** Closes what work() started, then the connections. */
  close(): Promise<void>;
}
