import { Type, type Static } from 'typebox';
import { Timestamp } from './ids.js';

/**
 * `silent`: it has not said for a minute that it is there. `stalled`: it could take a job, one has been waiting for five
 * minutes, and in as long it has taken none. The others are well.
 */
export const WORKER_STATES = ['working', 'idle', 'stalled', 'silent'] as const;
export const WorkerState = Type.Enum([...WORKER_STATES]);
export type WorkerState = Static<typeof WorkerState>;

/** A worker process, as the operator sees it. */
export const Worker = Type.Object(
  {
    id: Type.String({ description: 'Host and process' }),
    object: Type.Literal('worker'),
    state: WorkerState,
    engine: Type.Object({ kind: Type.String(), name: Type.String(), reason: Type.String() }),
    slots: Type.Integer({ description: 'Jobs that it may hold at once' }),
    free: Type.Integer({ description: 'How many more it could take' }),
    idle_since: Type.Union([Timestamp, Type.Null()], {
      description: 'Since when it could have taken a job and has taken none; null: it has no place',
    }),
    seen_at: Timestamp,
  },
  { $id: 'Worker' },
);
export type Worker = Static<typeof Worker>;
