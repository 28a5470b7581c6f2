import { countArchitectures, costRange } from '@ntaa/nas';
import { initEngine } from '@ntaa/engine';
import { builtinSupernet } from '@ntaa/supernet';
import type { Link } from './link.js';
import type { DescribeAssignment, EngineOutcome } from './protocol.js';

/** Starts the engine as a trainer would, and says what it is and which supernet ships with the code. */
export async function describeEngine(
  assignment: DescribeAssignment,
  link: Link<EngineOutcome>,
): Promise<void> {
  let engine;
  try {
    engine = await initEngine(assignment.engine);
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    return link.done({ status: 'unusable', detail: `NTAA_ENGINE=${assignment.engine}: ${detail}` });
  }
  const { card, sha256, size } = builtinSupernet();
  const { name, source, paradigm, space, metrics } = card;
  await link.done({
    status: 'described',
    engine,
    supernet: {
      name,
      source,
      paradigm,
      metrics,
      search_space: space,
      architectures: countArchitectures(space),
      // Of the largest network without a classifier: that is the target's.
      params: costRange(space, 0).max.params,
      size_bytes: size,
      sha256,
    },
  });
}
