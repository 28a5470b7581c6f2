import { costRange, countArchitectures } from '@ntaa/nas';
import { newId, type JobResult, type Metrics, type PretrainRequest } from '@ntaa/contracts';
import type { PretrainOutcome, TargetData } from '@ntaa/adaptation';
import type { NewSupernet } from '@ntaa/db';
import type { EngineInfo } from '@ntaa/engine';
import { tinySpace } from '@ntaa/nas';
import { writeSafetensors } from '@ntaa/supernet';
import type { JobAssignment } from './protocol.js';
import type { WorkStore } from './work-store.js';

/** Stores a pretrained supernet and says what becomes of it in the database. */
export async function publishSupernet(input: {
  assignment: JobAssignment;
  request: PretrainRequest;
  outcome: PretrainOutcome;
  data: TargetData;
  engine: EngineInfo;
  store: WorkStore;
}): Promise<{ supernet: NewSupernet; result: JobResult }> {
  const { assignment, request, outcome, data } = input;
  const id = newId('sn');
  const key = `${assignment.outputs}weights.safetensors`;
  const { sha256, size } = await input.store.put(
    key,
    writeSafetensors(outcome.tensors, { format: 'ntaa-supernet' }),
  );
  const { max } = costRange(tinySpace, data.labels.length);
  const best = outcome.subnets[0]!;
  const metrics = {
    job: assignment.jobId,
    engine: input.engine.name,
    seconds: outcome.seconds,
    subnets: outcome.subnets.map(({ name, genotype, metrics }) => ({ name, genotype, ...shareOf(metrics) })),
  };
  return {
    supernet: {
      id,
      name: request.name ?? id,
      source: `dataset ${assignment.dataset.id}`,
      paradigm: request.paradigm ?? 'supervised',
      search_space: tinySpace,
      architectures: countArchitectures(tinySpace),
      params: max.params,
      size_bytes: size,
      sha256,
      metrics,
      key,
    },
    result: { supernet: id, metrics: best.metrics, macs: max.macs, params: max.params },
  };
}

/** The one figure of a subnet that its card shows: images told right, or views whose other view was found first. */
function shareOf(metrics: Metrics): { top1: number } | { rank1: number } | null {
  if ('top1' in metrics) return { top1: metrics.top1 };
  return 'rank1' in metrics ? { rank1: metrics.rank1 } : null;
}
