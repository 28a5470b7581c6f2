/** What is going to go wrong: a list made up front from the seed. */
import { KILL_POINTS } from '@ntaa/config';
import { Rng } from '@ntaa/random';
import { S3_TROUBLE } from './proxy.mjs';
import { USERS } from './users.mjs';

const KINDS = [
  ...['worker-kill', 'trainer-kill', 'worker-sleep', 'helper-kill', 'helper-sleep'],
  ...['measurer-kill', 'measurer-sleep'],
  ...['api-kill', 'redis-flush', 'redis-kill'],
  ...['postgres-fast', 'postgres-immediate'],
  ...S3_TROUBLE.map((kind) => `s3-${kind}`),
  ...KILL_POINTS.map((name) => `at ${name}`),
  ...USERS,
];

/** Faults that strike where workers help with each other's jobs: by the recipe (recipes.mjs) whose jobs give them something to do. */
const AT_HELPERS = {
  ...{ 'helper-kill': 'search', 'helper-sleep': 'search', 'at worker.pieces-offered': 'search' },
  ...{ 'at worker.piece-claimed': 'search', 'at worker.piece-answered': 'search' },
  ...{ 'at trainer.results-taken': 'search' },
  ...{ 'measurer-kill': 'measure', 'measurer-sleep': 'measure' },
};
/** null: any job will do. */
export const needOf = ({ kind }) => AT_HELPERS[kind] ?? null;

/**
 * @returns faults in order: `kind`; `pauseMs` before it; `strike`, 0..1, for the fault to place itself with (which server,
 * how late in a request, how long). Kinds are dealt like cards, so that they come equally often.
 */
export function makePlan({ seed, faults, only }) {
  const kinds = only ? KINDS.filter((kind) => only.includes(kind)) : KINDS;
  if (kinds.length === 0) throw new Error(`There are only the faults ${KINDS.join(', ')}`);
  const rng = new Rng(seed, 'chaos');
  const plan = [];
  let deck = [];
  while (plan.length < faults) {
    if (deck.length === 0) deck = rng.shuffle([...kinds]);
    plan.push({ kind: deck.pop(), pauseMs: 500 + rng.int(2500), strike: rng.uniform() });
  }
  return plan;
}
