import { Type, type Static } from 'typebox';
import { Gain, LearningCurves } from './evidence.js';
import { Genotype } from './genotype.js';
import { Id, Timestamp } from './ids.js';
import { Metrics } from './metrics.js';
import { TaskName } from './task.js';

export const JOB_STATUSES = [
  'queued',
  'running',
  'pausing',
  'paused',
  'stopping',
  'cancelling',
  'cancelled',
  'succeeded',
  'failed',
] as const;
export const JobStatus = Type.Enum([...JOB_STATUSES]);
export type JobStatus = Static<typeof JobStatus>;

export const isTerminal = (s: JobStatus): boolean => s === 'cancelled' || s === 'succeeded' || s === 'failed';
/** A worker holds, or held, a lease on a job in one of these. */
export const isActive = (s: JobStatus): boolean =>
  s === 'running' || s === 'pausing' || s === 'stopping' || s === 'cancelling';

export type JobAction = 'cancel' | 'stop' | 'pause' | 'resume';
/** Where an action leads from a status: the new status, `same` when it already is in force, null when illegal. */
export function transition(action: JobAction, from: JobStatus): JobStatus | 'same' | null {
  const table: Record<JobAction, Partial<Record<JobStatus, JobStatus | 'same'>>> = {
    cancel: {
      queued: 'cancelled',
      paused: 'cancelled',
      running: 'cancelling',
      pausing: 'cancelling',
      stopping: 'cancelling',
      cancelling: 'same',
      cancelled: 'same',
    },
    // A stopped job that never ran has no model to keep: stopping it is refused, cancelling is what is meant.
    stop: { running: 'stopping', pausing: 'stopping', stopping: 'same' },
    pause: { queued: 'paused', running: 'pausing', pausing: 'same', paused: 'same' },
    resume: { paused: 'queued', pausing: 'running', queued: 'same', running: 'same' },
  };
  return table[action][from] ?? null;
}

export const STAGES = ['prepare', 'transfer', 'search', 'finetune', 'evaluate', 'export'] as const;
export const PRETRAIN_STAGES = ['prepare', 'pretrain', 'evaluate', 'export'] as const;
export const Stage = Type.Enum([...STAGES, 'pretrain']);
export type Stage = Static<typeof Stage>;

const Nullable = <T extends Parameters<typeof Type.Optional>[0]>(schema: T) =>
  Type.Union([schema, Type.Null()]);
const Positive = Type.Number({ exclusiveMinimum: 0 });

export const Constraints = Type.Object(
  {
    max_macs: Type.Optional(Nullable(Positive)),
    max_params: Type.Optional(Nullable(Positive)),
    max_latency_ms: Type.Optional(Nullable(Positive)),
    max_size_bytes: Type.Optional(Nullable(Positive)),
  },
  { additionalProperties: false },
);
export type Constraints = Static<typeof Constraints>;

export const Budget = Type.Object(
  {
    /** Wall-clock seconds for the whole job from started_at, every attempt counted. */
    max_seconds: Type.Optional(Nullable(Type.Number({ minimum: 10, maximum: 30 * 86400 }))),
    /** Distinct architectures evaluated; also sets how long training lasts, so that seeds give the same bytes. */
    max_candidates: Type.Optional(Nullable(Type.Integer({ minimum: 1, maximum: 100000 }))),
  },
  { additionalProperties: false },
);
export type Budget = Static<typeof Budget>;

/** Notes of the caller's own. (Not Type.Record: its pattern `^.*$` would let keys with line ends pass unchecked.) */
export const Metadata = Type.Unsafe<Record<string, string>>(
  Type.Object(
    {},
    {
      additionalProperties: Type.String({ maxLength: 512 }),
      propertyNames: { type: 'string', minLength: 1, maxLength: 64 },
      maxProperties: 16,
    },
  ),
);
const Objective = Type.Union([Type.Literal('macs'), Type.Literal('params'), Type.Literal('latency')]);
const Priority = Type.Integer({
  ...{ minimum: -100, maximum: 100 },
  // No default is filled in: a request sent again after an upgrade must be the same request.
  description: 'Among your own jobs that wait, those of higher priority go first; left out: 0',
});
const Seed = Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1, default: 0 });

export const AdaptRequest = Type.Object(
  {
    kind: Type.Literal('adapt'),
    task: TaskName,
    dataset: Id('ds'),
    source_dataset: Type.Optional(
      Type.Unsafe<`ds_${string}`>({
        ...Id('ds'),
        description:
          'Of domain-adaptation, and of it alone: the labelled images; labels of `dataset` are never read',
      }),
    ),
    supernet: Type.Optional(
      Type.String({ minLength: 1, maxLength: 100, default: 'tiny', description: 'Name or id' }),
    ),
    paradigm: Type.Optional(
      Type.Union([Type.Literal('supervised'), Type.Literal('linear-evaluation')], {
        description:
          'linear-evaluation: the weights of the supernet stay as they are, and architectures are judged by a classifier fitted in closed form',
      }),
    ),
    objective: Type.Optional(Objective),
    constraints: Type.Optional(Constraints),
    budget: Type.Optional(Budget),
    baseline: Type.Optional(Type.Boolean({ default: true })),
    seed: Type.Optional(Seed),
    priority: Type.Optional(Priority),
    metadata: Type.Optional(Metadata),
  },
  { additionalProperties: false },
);
export const PretrainRequest = Type.Object(
  {
    kind: Type.Literal('pretrain'),
    dataset: Id('ds'),
    name: Type.Optional(Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,62}$' })),
    paradigm: Type.Optional(
      Type.Union([Type.Literal('supervised'), Type.Literal('self-supervised')], {
        description: 'self-supervised: labels, if there are any, are not read',
      }),
    ),
    search_space: Type.Optional(Type.Literal('tiny')),
    budget: Type.Optional(
      Type.Object(
        {
          max_seconds: Type.Optional(Nullable(Type.Number({ minimum: 10, maximum: 30 * 86400 }))),
          max_epochs: Type.Optional(Nullable(Type.Integer({ minimum: 1, maximum: 10000 }))),
        },
        { additionalProperties: false },
      ),
    ),
    seed: Type.Optional(Seed),
    priority: Type.Optional(Priority),
    metadata: Type.Optional(Metadata),
  },
  { additionalProperties: false },
);
export type AdaptRequest = Static<typeof AdaptRequest>;
export type PretrainRequest = Static<typeof PretrainRequest>;
export type JobRequest = AdaptRequest | PretrainRequest;

const Outcome = {
  metrics: Metrics,
  macs: Type.Number(),
  params: Type.Integer(),
};
export const JobResult = Type.Object({
  model: Type.Optional(Id('mdl')),
  supernet: Type.Optional(Id('sn')),
  ...Outcome,
  metrics: Type.Union([Metrics, Type.Record(Type.String(), Type.Unknown())]),
  /** What the network looks at, px. Taller than wide for re-identification where the median image is. */
  input: Type.Optional(Type.Object({ width: Type.Integer(), height: Type.Integer() })),
  /** Weights-only adaptation (WP&F) of a fixed architecture at the same training budget. */
  baseline: Type.Optional(Type.Object({ ...Outcome, genotype: Genotype, seconds: Type.Number() })),
  /** The largest net of the adapted supernet, as it is inside the supernet. */
  largest: Type.Optional(Type.Object({ ...Outcome, genotype: Genotype })),
  search: Type.Optional(
    Type.Object({
      evaluated: Type.Integer(),
      pareto_size: Type.Integer(),
      rank_correlation: Nullable(
        Type.Number({ description: "Kendall's tau of the predictor, cross-validated" }),
      ),
    }),
  ),
  seconds: Type.Optional(Type.Record(Type.String(), Type.Number(), { description: 'Seconds by stage' })),
  gain: Type.Optional(Gain),
  curves: Type.Optional(LearningCurves),
});
export type JobResult = Static<typeof JobResult>;

export const Progress = Type.Object({
  fraction: Type.Number({ minimum: 0, maximum: 1 }),
  eta_seconds: Nullable(Type.Number()),
  message: Type.String(),
  images_per_second: Type.Optional(Type.Number()),
  /** What the engine holds in a thread of the trainer: its heap, or its tensors on native engines. */
  memory_bytes: Type.Optional(Type.Integer()),
  /** Best validation accuracy so far (mean average precision, or share of ages within five years). */
  best: Type.Optional(Type.Number()),
});
export type Progress = Static<typeof Progress>;

export const STOP_REASONS = ['completed', 'converged', 'budget_exhausted', 'user_stopped'] as const;
export const StopReason = Type.Enum([...STOP_REASONS]);
export type StopReason = Static<typeof StopReason>;

export const Job = Type.Object(
  {
    id: Id('job'),
    object: Type.Literal('job'),
    kind: Type.Union([Type.Literal('adapt'), Type.Literal('pretrain')]),
    task: Nullable(Type.String()),
    status: JobStatus,
    stage: Nullable(Stage),
    attempt: Type.Integer(),
    progress: Progress,
    queue_position: Nullable(Type.Integer()),
    request: Type.Record(Type.String(), Type.Unknown()),
    created_at: Timestamp,
    started_at: Nullable(Timestamp),
    finished_at: Nullable(Timestamp),
    stop_reason: Nullable(StopReason),
    result: Nullable(JobResult),
    error: Nullable(Type.Object({ code: Type.String(), detail: Type.String() })),
    metadata: Metadata,
  },
  { $id: 'Job' },
);
export type Job = Static<typeof Job>;

/** Answer of `POST /v1/jobs?dry_run=true`. */
export const DryRun = Type.Object({
  valid: Type.Literal(true),
  kind: Type.String(),
  estimate: Type.Object({
    seconds: Type.Number(),
    candidates: Nullable(Type.Integer()),
    images: Type.Object({ train: Type.Integer(), validation: Type.Integer(), test: Type.Integer() }),
    space: Type.Object({ architectures: Type.Number(), min_macs: Type.Number(), max_macs: Type.Number() }),
  }),
});
export type DryRun = Static<typeof DryRun>;

/** Events of a job, numbered from 1 without gaps. */
export const EVENT_TYPES = [
  'status',
  'stage',
  'progress',
  'candidate',
  'split',
  'warning',
  'log',
  'done',
] as const;
export const JobEvent = Type.Object(
  {
    seq: Type.Integer({ minimum: 1 }),
    type: Type.Enum([...EVENT_TYPES]),
    created_at: Timestamp,
    data: Type.Record(Type.String(), Type.Unknown()),
  },
  { $id: 'JobEvent' },
);
export type JobEvent = Static<typeof JobEvent>;
export type EventType = JobEvent['type'];

export const Candidate = Type.Object(
  {
    genotype: Genotype,
    macs: Type.Number(),
    params: Type.Integer(),
    latency_ms: Nullable(Type.Number()),
    /**
     * Fitness on validation images, higher is better: minus the loss; minus the mean error of ages, years; mean average
     * precision; for domain adaptation the mean rank by what is known without the target's labels, 0..1.
     */
    score: Type.Number(),
    metrics: Type.Record(Type.String(), Type.Number(), {
      description: 'On validation images, by task; for classification top1 and loss',
    }),
    pareto: Type.Boolean(),
    selected: Type.Boolean(),
  },
  { $id: 'Candidate' },
);
export type Candidate = Static<typeof Candidate>;
