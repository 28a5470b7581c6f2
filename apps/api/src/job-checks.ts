/** What a job request must satisfy beyond its shape, checked before anything is stored; and what it will cost. */
import {
  ProblemError,
  TASK_COLUMNS,
  type AdaptRequest,
  type Dataset,
  type DryRun,
  type JobRequest,
  type ProblemDetail,
  type SearchSpace,
  type Supernet,
} from '@ntaa/contracts';
import type { Database } from '@ntaa/db';
import {
  CALIBRATION_IMAGES,
  cost,
  costRange,
  countArchitectures,
  DEFAULT_CANDIDATES,
  defaultEpochs,
  EPOCHS,
  FINETUNE_RATIO,
  handDesigned,
  headOutputs,
  inputAspect,
  nearestAchievable,
  PROBE,
  probeImages,
  taskSpace,
  tinySpace,
} from '@ntaa/nas';
import { freshInputs, type JobInputs } from './job-inputs.js';

const PLANNED: Readonly<Record<string, readonly unknown[]>> = {
  '/search_space': ['ofa-mbv3'],
};
/** Says of a value that the contract names and this version lacks that it is not implemented, rather than wrong. */
export function explainPlanned(pointer: string, value: unknown): string | undefined {
  if (!PLANNED[pointer]?.includes(value)) return undefined;
  return `${JSON.stringify(value)} is not implemented yet; "tiny" is`;
}

/** The dataset and search space of a valid request. Throws ProblemError naming all that cannot be used. */
export async function checkJob(
  db: Database,
  tenant: string,
  request: JobRequest,
  inputs: JobInputs = freshInputs(db),
): Promise<{ dataset: Dataset; space: SearchSpace }> {
  const sourceId = request.kind === 'adapt' ? request.source_dataset : undefined;
  const [dataset, source, supernet] = await Promise.all([
    inputs.dataset(tenant, request.dataset),
    sourceId === undefined ? null : inputs.dataset(tenant, sourceId),
    request.kind === 'adapt' ? inputs.supernet(tenant, request.supernet ?? 'tiny') : null,
  ]);
  const errors = [
    ...datasetErrors(request.dataset, dataset, '/dataset'),
    ...(sourceId === undefined ? [] : datasetErrors(sourceId, source, '/source_dataset')),
    ...sourceErrors(request),
    ...supernetErrors(request, supernet),
  ];
  if (!dataset || errors.length)
    throw new ProblemError('validation-failed', 'The job cannot be run as requested.', errors);
  requireReady(dataset, '/dataset');
  if (source) requireReady(source, '/source_dataset');
  const lacking = columnErrors(request, source ?? dataset, source ? '/source_dataset' : '/dataset');
  if (lacking.length)
    throw new ProblemError('validation-failed', 'The dataset does not have what the task needs.', lacking);
  if (request.kind === 'pretrain' && request.name && (await db.supernets.get(tenant, request.name)))
    throw new ProblemError('conflict', `There is a supernet named ${request.name}; choose another name.`, [
      { pointer: '/name', code: 'name-taken', detail: 'is taken' },
    ]);
  const own = supernet?.search_space ?? tinySpace;
  const space =
    request.kind === 'adapt'
      ? taskSpace(request.task, own, inputAspect(request.task, dataset.counts?.aspect ?? 1))
      : own;
  if (request.kind === 'adapt')
    checkConstraints(request, space, headOutputs(request.task, classesOf(source ?? dataset)));
  return { dataset, space };
}

function requireReady({ id, status }: Dataset, pointer: string): void {
  if (status !== 'ready')
    throw new ProblemError('conflict', `${id} is ${status}; wait until it is ready.`, [
      { pointer, code: 'dataset-not-ready', detail: `is ${status}` },
    ]);
}

/** Domain adaptation, and it alone, has a source. */
function sourceErrors(request: JobRequest): ProblemDetail[] {
  if (request.kind !== 'adapt') return [];
  const pointer = '/source_dataset';
  const { task, source_dataset: source } = request;
  if (task !== 'domain-adaptation')
    return source === undefined
      ? []
      : [{ pointer, code: 'unexpected', detail: `${task} has no source_dataset; domain-adaptation has` }];
  if (source === undefined)
    return [{ pointer, code: 'required', detail: 'domain-adaptation needs a labelled source_dataset' }];
  return source === request.dataset
    ? [{ pointer, code: 'same-dataset', detail: 'is the dataset itself; source and target must differ' }]
    : [];
}

/** What the task needs and the dataset, by its counts, does not have. */
function columnErrors(request: JobRequest, dataset: Dataset, pointer: string): ProblemDetail[] {
  if (request.kind === 'pretrain' && request.paradigm === 'self-supervised') return [];
  const task = request.kind === 'adapt' ? request.task : 'classification';
  const columns = dataset.counts?.columns;
  // Of datasets of old nothing is known but their labels.
  if (!columns && (task === 'classification' || task === 'domain-adaptation')) return [];
  return TASK_COLUMNS[task].flatMap((column): ProblemDetail[] => {
    const { images = 0, values = 0 } = columns?.[column] ?? {};
    if (images === 0)
      return [
        {
          pointer,
          code: 'column-missing',
          detail: `${task} needs images with ${column}, and ${dataset.id} has none; upload it with that column of labels.csv, or in a format that has it`,
        },
      ];
    if (values > 1) return [];
    const detail = `all ${images} images of ${dataset.id} have the same ${column}, so there is nothing to learn`;
    return [{ pointer, code: 'degenerate-target', detail }];
  });
}

function datasetErrors(id: string, dataset: Dataset | null, pointer: string): ProblemDetail[] {
  if (!dataset) return [{ pointer, code: 'unknown-dataset', detail: `there is no dataset ${id}` }];
  if (dataset.status !== 'invalid') return [];
  const why = dataset.report?.error?.detail ?? 'see its report';
  return [{ pointer, code: 'dataset-invalid', detail: `${id} was refused at validation: ${why}` }];
}

function supernetErrors(request: JobRequest, supernet: Supernet | null): ProblemDetail[] {
  if (request.kind !== 'adapt' || supernet) return [];
  const detail = `there is no supernet ${JSON.stringify(request.supernet ?? 'tiny')}; GET /v1/supernets lists them`;
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

/** At least two: a target without labels has as many as its source. */
const classesOf = (dataset: Dataset): number => Math.max(2, dataset.counts?.classes ?? 2);

/** Multiply-accumulates of forward passes that training gets through in a second on one core, backward included. */
export const TRAINED_MACS_PER_SECOND = 3.3e9;
/** What starting, decoding, testing and exporting take. */
const OVERHEAD_SECONDS = 8;
/** Shares a job splits off where the dataset names no such split: from its training images. */
const SHARES = { validation: 0.2, test: 0.2 };

/** By the schedule that the trainer plans with (packages/nas, schedule.ts), on one core of today. */
export function estimate(request: JobRequest, dataset: Dataset, space: SearchSpace): DryRun {
  const classes =
    request.kind === 'adapt' ? headOutputs(request.task, classesOf(dataset)) : classesOf(dataset);
  const { min, max } = costRange(space, classes);
  const images = splitSizes(dataset);
  const middle = cost(space, handDesigned(space), classes).macs;
  const macs =
    request.kind === 'pretrain'
      ? (request.budget?.max_epochs ?? EPOCHS.pretrain) * images.train * (min.macs + max.macs + 2 * middle)
      : adaptationMacs(request, images, { min: min.macs, middle, max: max.macs });
  const seconds = Math.ceil(OVERHEAD_SECONDS + macs / TRAINED_MACS_PER_SECOND);
  return {
    valid: true,
    kind: request.kind,
    estimate: {
      seconds: Math.min(seconds, request.budget?.max_seconds ?? Infinity),
      candidates: request.kind === 'adapt' ? (request.budget?.max_candidates ?? null) : null,
      images,
      space: { architectures: countArchitectures(space), min_macs: min.macs, max_macs: max.macs },
    },
  };
}

/** Multiply-accumulates of one forward pass for each of all the training's image passes. */
function adaptationMacs(
  { budget, baseline, paradigm }: AdaptRequest,
  images: { train: number; validation: number },
  { min, middle, max }: { min: number; middle: number; max: number },
): number {
  const { max_seconds, max_candidates } = budget ?? {};
  if (paradigm === 'linear-evaluation') {
    const shown =
      PROBE.calibration + probeImages(images.train) + Math.min(PROBE.validation, images.validation);
    // Finalists, the chosen network, the largest and the baseline see everything, once.
    const whole = (PROBE.finalists + 3) * (CALIBRATION_IMAGES + images.train + images.validation);
    // No backward pass, two thirds of the cost.
    return (((max_candidates ?? DEFAULT_CANDIDATES) * shown + whole) * middle) / 3;
  }
  // A clock alone lets a job train on until it has seen its images often enough.
  const clocked = max_seconds != null && max_candidates == null;
  const epochs = clocked
    ? { transfer: EPOCHS.maxTransfer, finetune: EPOCHS.maxTransfer * FINETUNE_RATIO }
    : defaultEpochs(max_candidates ?? null, images.train);
  const transferred = epochs.transfer * images.train;
  const finetuned = epochs.finetune * (images.train + images.validation);
  const judged =
    (max_candidates ?? DEFAULT_CANDIDATES) * (Math.min(CALIBRATION_IMAGES, images.train) + images.validation);
  // The sandwich: largest, smallest and two between. A judgement has no backward pass, two thirds of the cost.
  return (
    transferred * (min + max + 2 * middle) +
    finetuned * middle +
    (judged * middle) / 3 +
    (baseline === false ? 0 : (transferred + finetuned) * middle)
  );
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
