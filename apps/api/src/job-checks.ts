/** What a job request must satisfy beyond its shape, checked before anything is stored; and what it will cost. */
import {
  ProblemError,
  TASKS,
  type AdaptRequest,
  type Dataset,
  type DryRun,
  type JobRequest,
  type ProblemDetail,
  type SearchSpace,
  type Supernet,
} from '@ntaa/contracts';
import type { Database } from '@ntaa/db';
import { cost, costRange, countArchitectures, handDesigned, nearestAchievable, tinySpace } from '@ntaa/nas';

const PLANNED: Readonly<Record<string, readonly unknown[]>> = {
  '/task': TASKS,
  '/paradigm': ['linear-evaluation', 'self-supervised'],
  '/search_space': ['ofa-mbv3'],
};
/** Says of a value that the contract names and this version lacks that it is not implemented, rather than wrong. */
export function explainPlanned(pointer: string, value: unknown): string | undefined {
  if (!PLANNED[pointer]?.includes(value)) return undefined;
  const now = { '/task': 'classification', '/paradigm': 'supervised', '/search_space': 'tiny' }[pointer];
  return `${JSON.stringify(value)} is not implemented yet; "${now}" is`;
}

/** The dataset and search space of a valid request. Throws ProblemError naming all that cannot be used. */
export async function checkJob(
  db: Database,
  tenant: string,
  request: JobRequest,
): Promise<{ dataset: Dataset; space: SearchSpace }> {
  const [dataset, supernet] = await Promise.all([
    db.datasets.get(tenant, request.dataset),
    request.kind === 'adapt' ? db.supernets.get(tenant, request.supernet ?? 'tiny') : null,
  ]);
  const errors = [...datasetErrors(request.dataset, dataset), ...supernetErrors(request, supernet)];
  if (!dataset || errors.length)
    throw new ProblemError('validation-failed', 'The job cannot be run as requested.', errors);
  if (dataset.status !== 'ready')
    throw new ProblemError('conflict', `${dataset.id} is ${dataset.status}; wait until it is ready.`, [
      { pointer: '/dataset', code: 'dataset-not-ready', detail: `is ${dataset.status}` },
    ]);
  if (request.kind === 'pretrain' && request.name && (await db.supernets.get(tenant, request.name)))
    throw new ProblemError('conflict', `There is a supernet named ${request.name}; choose another name.`, [
      { pointer: '/name', code: 'name-taken', detail: 'is taken' },
    ]);
  const space = supernet?.search_space ?? tinySpace;
  if (request.kind === 'adapt') checkConstraints(request, space, classesOf(dataset));
  return { dataset, space };
}

function datasetErrors(id: string, dataset: Dataset | null): ProblemDetail[] {
  const pointer = '/dataset';
  if (!dataset) return [{ pointer, code: 'unknown-dataset', detail: `there is no dataset ${id}` }];
  if (dataset.status !== 'invalid') return [];
  const why = dataset.report?.error?.detail ?? 'see its report';
  return [{ pointer, code: 'dataset-invalid', detail: `${id} was refused at validation: ${why}` }];
}

function supernetErrors(request: JobRequest, supernet: Supernet | null): ProblemDetail[] {
  if (request.kind !== 'adapt' || supernet) return [];
  const detail = `there is no supernet ${request.supernet ?? 'tiny'}; GET /v1/supernets lists them`;
  return [{ pointer: '/supernet', code: 'unknown-supernet', detail }];
}

function checkConstraints(request: AdaptRequest, space: SearchSpace, classes: number): void {
  const nearest = Object.entries(nearestAchievable(space, classes, request.constraints ?? {}));
  if (!nearest.length) return;
  const errors = nearest.map(([limit, value]) => ({
    pointer: `/constraints/${limit}`,
    code: 'constraint-infeasible',
    detail: `the nearest achievable value is ${value}`,
  }));
  throw new ProblemError(
    'constraint-infeasible',
    `No architecture of ${space.name} with ${classes} classes is that small: ${nearest.map(([l, v]) => `${l} must be at least ${v}`).join('; ')}.`,
    errors,
  );
}

const classesOf = (dataset: Dataset): number => dataset.counts?.classes ?? 2;

/** Multiply-accumulates of forward passes that training gets through in a second on one core, backward included. */
const TRAINED_MACS_PER_SECOND = 1.9e9;
/** Image passes by default, and the cost of a sandwich step in passes of the largest net. */
const EPOCHS = { transfer: 12, finetune: 40, pretrain: 60 };
const SANDWICH = 2.2;
const STARTUP_SECONDS = 15;
/** Shares a job splits off where the dataset names no such split: from its training images. */
const SHARES = { validation: 0.2, test: 0.2 };

export function estimate(request: JobRequest, dataset: Dataset, space: SearchSpace): DryRun {
  const { min, max } = costRange(space, classesOf(dataset));
  const images = splitSizes(dataset);
  const middle = cost(space, handDesigned(space), classesOf(dataset)).macs;
  const share = (pass: number) => (images.train * pass) / TRAINED_MACS_PER_SECOND;
  const sandwich = SANDWICH * max.macs;
  let seconds: number;
  if (request.kind === 'pretrain')
    seconds = share((request.budget?.max_epochs ?? EPOCHS.pretrain) * sandwich);
  else {
    const once = share(EPOCHS.transfer * sandwich + EPOCHS.finetune * middle);
    const baseline = share((EPOCHS.transfer + EPOCHS.finetune) * middle);
    seconds = once + (request.baseline === false ? 0 : baseline);
  }
  return {
    valid: true,
    kind: request.kind,
    estimate: {
      seconds: Math.min(Math.ceil(STARTUP_SECONDS + seconds), request.budget?.max_seconds ?? Infinity),
      candidates: request.kind === 'adapt' ? (request.budget?.max_candidates ?? null) : null,
      images,
      space: { architectures: countArchitectures(space), min_macs: min.macs, max_macs: max.macs },
    },
  };
}

/** Approximate: a job rounds by class, and keeps equal images together. */
function splitSizes(dataset: Dataset): { train: number; validation: number; test: number } {
  const { splits, images } = dataset.counts ?? { splits: null, images: 0 };
  const given = splits ?? { train: images, validation: 0, test: 0 };
  const validation = given.validation || Math.round(given.train * SHARES.validation);
  const test = given.test || Math.round(given.train * SHARES.test);
  const taken = (given.validation ? 0 : validation) + (given.test ? 0 : test);
  return { train: given.train - taken, validation, test };
}
