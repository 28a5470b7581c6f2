// Process entry: works on one assignment of the supervisor that forked it, then ends.
import { JobError } from '@ntaa/contracts';
import { IpcLink } from './link.js';
import type { Assignment } from './protocol.js';

// A supervisor that is gone can commit nothing: stop at once. Signals meant for a whole process group (Ctrl-C in a
// terminal, a service manager's stop) are the supervisor's to act on.
process.on('disconnect', () => process.exit(1));
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);

const link = new IpcLink(process);

/** What an assignment does not need is not loaded for it: a worker forks a child for every archive. */
async function work(assignment: Assignment): Promise<void> {
  switch (assignment.kind) {
    case 'dataset':
      return (await import('./ingest-dataset.js')).ingestDataset(assignment, link);
    case 'job':
      return (await import('./run-job.js')).runJob(assignment, link);
    case 'help':
      return (await import('./help.js')).help(assignment, link);
    case 'describe':
      return (await import('./describe-engine.js')).describeEngine(assignment, link);
  }
}

try {
  await work(await link.assignment);
} catch (error) {
  console.error(error);
  if (error instanceof JobError) await link.failed(error.code, error.message);
  else if ((await import('@ntaa/engine')).isOutOfMemory(error))
    await link.failed('out-of-memory', 'The job needs more memory than there is');
  else await link.failed('internal', 'Something went wrong on our side while working on this');
}
process.exit(0);
