import type { Database } from './types.js';

/** Of each connection: Postgres settles on a statement's plan after five times. */
const TIMES = 20;

/**
 * Asks for jobs of nobody on a dataset that is not there, which writes nothing: afterwards connections know the statements of a
 * submission, and their code is compiled, before the first one comes.
 */
export async function rehearse({ jobs, keys }: Pick<Database, 'jobs' | 'keys'>, connections: number) {
  const request = { kind: 'adapt', task: 'classification', dataset: 'none' } as const;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      for (let i = 0; i < TIMES; i++) {
        await keys.verify('none');
        await jobs.create('none', request);
      }
    }),
  );
}
