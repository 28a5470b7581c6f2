import { Type, type Static } from 'typebox';

/** The queue's job catalogue: payloads hold ids only, the truth is in the database. */
export const QUEUE_JOBS = {
  'dataset.validate': Type.Object({ dataset_id: Type.String() }),
  'job.run': Type.Object({ job_id: Type.String() }),
  /** Pieces of a running job can be done by a worker that is free. */
  'job.help': Type.Object({ job_id: Type.String() }),
  'webhook.deliver': Type.Object({ delivery_id: Type.String() }),
} as const;
export type QueueJobName = keyof typeof QUEUE_JOBS;
// Derived once for all: Static of a type parameter keeps the compiler busy for seconds.
type QueuePayloads = { [N in QueueJobName]: Static<(typeof QUEUE_JOBS)[N]> };
export type QueuePayload<N extends QueueJobName> = QueuePayloads[N];
