// Process entry: works on one assignment of the supervisor that forked it, then ends.
import { JobError } from '@ntaa/contracts';
import { isOutOfMemory } from '@ntaa/engine';
import { describeEngine } from './describe-engine.js';
import { ingestDataset } from './ingest-dataset.js';
import { IpcLink } from './link.js';
import type { Assignment } from './protocol.js';
import { runJob } from './run-job.js';

// A supervisor that is gone can commit nothing: stop at once. Signals meant for a whole process group (Ctrl-C in a
// terminal, a service manager's stop) are the supervisor's to act on.
process.on('disconnect', () => process.exit(1));
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);

const link = new IpcLink(process);

async function work(assignment: Assignment): Promise<void> {
  switch (assignment.kind) {
    case 'dataset':
      return ingestDataset(assignment, link);
    case 'job':
      return runJob(assignment, link);
    case 'describe':
      return describeEngine(assignment, link);
  }
}

try {
  await work(await link.assignment);
} catch (error) {
  console.error(error);
  if (error instanceof JobError) await link.failed(error.code, error.message);
  else if (isOutOfMemory(error))
    await link.failed('out-of-memory', 'The job needs more memory than there is');
  else await link.failed('internal', 'Something went wrong on our side while working on this');
}
process.exit(0);
