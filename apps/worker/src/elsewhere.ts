import { createHash } from 'node:crypto';
import type { Elsewhere, ObjectRef } from '@ntaa/adaptation';
import { killPoint } from '@ntaa/config';
import { JobError } from '@ntaa/contracts';
import type { JobLink } from './link.js';
import type { WorkStore } from './work-store.js';

/** Objects of a job's pieces: they go when the job has ended. `folder`: see piecesFolder in packages/db. */
export function pieceObjects(jobId: string, store: WorkStore): Pick<Elsewhere, 'put' | 'get'> {
  let last: ObjectRef | undefined;
  return {
    /** Called by its hash: equal bytes are kept once, and sent once when they come in a row, as a frozen network's do. */
    async put(bytes) {
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      if (last?.sha256 !== sha256)
        last = await store.put(`jobs/${jobId}/pieces/${sha256}.safetensors`, bytes);
      return last;
    },
    async get({ key, sha256 }: ObjectRef) {
      const bytes = await store.read(key);
      if (createHash('sha256').update(bytes).digest('hex') !== sha256)
        throw new JobError('storage-unavailable', `The stored object ${key} is damaged or was cut off`);
      return bytes;
    },
  };
}

/** Other workers, by way of the supervisor. */
export function elsewhere(
  { jobId }: { jobId: string },
  link: Pick<JobLink, 'pieces'>,
  store: WorkStore,
): Elsewhere {
  const ask = async <T>(question: Parameters<JobLink['pieces']>[0]): Promise<T> =>
    (await link.pieces(question)) as T;
  return {
    ...pieceObjects(jobId, store),
    helpers: () => ask({ ask: 'helpers' }),
    offer: (pieces, wake) => ask({ ask: 'offer', pieces, wake }),
    async next(step) {
      const found = await ask<Awaited<ReturnType<Elsewhere['next']>>>({ ask: 'next', ...step });
      if (found.done.length > 0) killPoint('trainer.results-taken');
      return found;
    },
    withdraw: () => ask({ ask: 'withdraw' }),
  };
}
