/**
 * The public shapes of the database room. Rows leave it in the contract's shapes. Everything a user can see is
 * asked for with its tenant; what belongs to another tenant is answered like what does not exist.
 */
import type {
  ApiKey,
  AuditEntry,
  Candidate,
  Dataset,
  DatasetCounts,
  DatasetFormat,
  DatasetReport,
  DatasetStatus,
  EventType,
  Job,
  JobAction,
  JobEvent,
  JobRequest,
  JobResult,
  JobStatus,
  Model,
  ModelFile,
  Progress,
  QueueJobName,
  QueuePayload,
  Quotas,
  Stage,
  StopReason,
  Supernet,
  Tenant,
  TenantPatch,
  TenantRequest,
  Usage,
  Webhook,
  WebhookDelivery,
  WebhookPatch,
  WebhookRequest,
  Worker,
  WorkerState,
} from '@ntaa/contracts';

export type Json = Record<string, unknown>;

export interface DatabaseOptions {
  /** Pool size; default 10. */
  readonly connections?: number;
  /** Opens all of them at once and keeps them, for who has to answer in milliseconds. */
  readonly warm?: boolean;
  /** How long to wait for a server that is not there yet, milliseconds; default 5000. */
  readonly connectTimeoutMs?: number;
  /** Called with trouble of the listening connection; it reconnects by itself. */
  readonly onError?: (error: Error) => void;
}

export interface Database {
  readonly tenants: Tenants;
  readonly keys: Keys;
  readonly audit: Audit;
  readonly datasets: Datasets;
  readonly supernets: Supernets;
  readonly jobs: Jobs;
  readonly pieces: Pieces;
  readonly models: Models;
  readonly uploads: Uploads;
  readonly webhooks: Webhooks;
  readonly garbage: Garbage;
  readonly workers: Workers;
  readonly idempotency: Idempotency;
  readonly outbox: Outbox;
  /**
   * Calls `job` with the id of every job whose row or event log changed and `outbox` when rows wait to be dispatched or
   * objects to be deleted, from any process, after the commit. A lost connection is made again, after which both are called once more
   * (`job` with null: any may have changed). Resolves, once listening, to the function that ends it.
   */
  listen(on: { job?: (id: string | null) => void; outbox?: () => void }): Promise<() => Promise<void>>;
  /** For metrics. */
  figures(): Promise<Figures>;
  /** Throws when the database does not answer. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** Of all tenants together. Ages are of the oldest, in seconds; 0 when there is none. */
export interface Figures {
  readonly oldestJobSeconds: number;
  readonly oldestDatasetSeconds: number;
  readonly outboxWaiting: number;
  readonly outboxLagSeconds: number;
  /** Failures and attempts of all jobs there are. */
  readonly failures: number;
  readonly attempts: number;
  /** Workers that hold a job. */
  readonly workers: number;
  /** Trained by all of them. */
  readonly imagesPerSecond: number;
  /** For how long the longest expired lease has not been taken back. */
  readonly stalestLeaseSeconds: number;
  readonly deliveriesPending: number;
  readonly deliveriesFailed: number;
  readonly oldestDeliverySeconds: number;
  readonly computeSeconds: number;
  /** Objects that could be deleted. */
  readonly garbage: number;
  /** What the engine of the largest running trainer holds, by its kind. */
  readonly memory: readonly { kind: string; bytes: number }[];
  /** Seconds that finished jobs took for a stage, together. */
  readonly stages: readonly { kind: string; stage: string; seconds: number; jobs: number }[];
}

/** One page, newest first unless said otherwise; `next_cursor` is the `after` of the next one. */
export interface Page<T> {
  readonly object: 'list';
  readonly data: T[];
  readonly has_more: boolean;
  readonly next_cursor: string | null;
}
export interface PageOptions {
  /** 1..100, default 20. */
  readonly limit?: number | undefined;
  /** `next_cursor` of the page before; anything else that is not of this list throws UnknownCursor. */
  readonly after?: string | undefined;
}

export interface Tenants {
  /** Throws KeyLost. */
  create(tenant: TenantRequest, once?: Once<Tenant>): Promise<Tenant>;
  get(id: string): Promise<Tenant | null>;
  list(page?: PageOptions): Promise<Page<Tenant>>;
  /** Quotas that are not named stay. null: no such tenant. */
  update(id: string, patch: TenantPatch): Promise<Tenant | null>;
  quotas(tenant: string): Promise<Quotas>;
  usage(tenant: string): Promise<Usage>;
  /** Looks whether there is room, to refuse early; what takes it looks again. Throws QuotaExceeded. */
  requireRoom(tenant: string, wanted: { bytes: number }): Promise<void>;
}

export interface Principal {
  readonly id: string;
  readonly tenant: string;
  readonly scopes: readonly string[];
  /** Of this key; null: what the server allows. */
  readonly requestsPerSecond: number | null;
}
export interface NewKey {
  readonly name: string;
  readonly scopes: readonly string[];
  /** Default: `default`. */
  readonly tenant?: string;
}
export interface MadeKey {
  readonly id: string;
  readonly secret: string;
  readonly tenant: string;
}
/** API keys. Only their SHA-256 is kept. */
export interface Keys {
  /** The secret (`ntaa_…`) is given here once and never again. Throws KeyLost. */
  create(key: NewKey, once?: Once<MadeKey>): Promise<MadeKey>;
  /** Makes sure that this secret is an admin key (scope 'admin', the only one so made) of the default tenant. */
  ensureBootstrap(secret: string): Promise<void>;
  /** null: unknown, revoked, or of a disabled tenant. */
  verify(secret: string): Promise<Principal | null>;
  /** Revoked keys included. */
  list(tenant: string, page?: PageOptions): Promise<Page<ApiKey>>;
  /** Of any tenant where that is null. false: no such key, or revoked before. */
  revoke(tenant: string | null, id: string): Promise<boolean>;
}

export interface NewAuditEntry {
  readonly tenant: string;
  readonly actor: string;
  readonly action: string;
  readonly target: string | null;
  readonly status: number;
  readonly address: string;
  readonly requestId: string;
}
/** Kept for a year. */
export interface Audit {
  add(entry: NewAuditEntry): Promise<void>;
  /** Newest first; tenant null: of all. */
  list(options: PageOptions & { tenant: string | null }): Promise<Page<AuditEntry>>;
}

export interface NewDataset {
  readonly id: string;
  readonly name: string;
  /** null: to be detected. */
  readonly format: DatasetFormat | null;
  readonly tenant: string;
  /** Storage key of the archive. */
  readonly uploadKey: string;
  /** Of the archive, hex; null: not known before a worker has read it. */
  readonly sha256: string | null;
  /** Of the archive. */
  readonly bytes: number;
  /** The upload in parts that it comes from. It can become one dataset, and nobody else joins it at the same time. */
  readonly upload?: { readonly id: string; join(): Promise<void> };
}
export interface ReadyDataset {
  readonly format: DatasetFormat;
  readonly counts: DatasetCounts;
  readonly labels: readonly { name: string; count: number }[];
  readonly report: DatasetReport;
  /** Where the packed images lie: JSON written and read by workers only. */
  readonly pack: Json;
  /** Of the archive, hex, where it was not known. */
  readonly sha256?: string;
}
/** What a worker sees of a dataset. */
export interface WorkerDataset extends Omit<NewDataset, 'upload'> {
  readonly status: DatasetStatus;
  readonly pack: Json | null;
  readonly dataset: Dataset;
}
export interface Datasets {
  /**
   * Status `validating`, and in the same transaction a `dataset.validate` for the queue. Its folder and archive are not
   * garbage from now on. Throws UploadUsed, QuotaExceeded.
   */
  /** Throws KeyLost. */
  create(dataset: NewDataset, once?: Once<Dataset>): Promise<Dataset>;
  get(tenant: string, id: string): Promise<Dataset | null>;
  list(tenant: string, page?: PageOptions & { status?: DatasetStatus | undefined }): Promise<Page<Dataset>>;
  /**
   * false: it is not `validating` any more (validated by another worker, or deleted). Its archive becomes garbage. More
   * images or pixels than the tenant may have make it invalid instead, `quota-exceeded`.
   */
  markReady(id: string, ready: ReadyDataset): Promise<boolean>;
  markInvalid(
    id: string,
    report: DatasetReport,
    found?: { format?: DatasetFormat; counts?: DatasetCounts },
  ): Promise<boolean>;
  /**
   * A validation came to nothing through no fault of the archive: it will be tried again, after a pause that doubles up
   * to two minutes. Returns how often that has been so.
   */
  postpone(id: string): Promise<number>;
  /** `in-use`: being validated, or jobs that have not ended use it. Its objects become garbage. */
  delete(tenant: string, id: string): Promise<'deleted' | 'in-use' | 'missing'>;
  forWorker(id: string): Promise<WorkerDataset | null>;
}

export type NewSupernet = Omit<Supernet, 'object' | 'builtin' | 'created_at'> & {
  /** Storage key of its safetensors; null for the built-in one, which ships with the code. */
  readonly key: string | null;
};
export type StoredSupernet = Supernet & { readonly key: string | null };
export interface Supernets {
  /** The built-in supernet, visible to every tenant; keeps its id when its weights change. */
  upsertBuiltin(supernet: Omit<NewSupernet, 'id' | 'key'>): Promise<Supernet>;
  /** A name that is taken throws NameTaken. */
  create(tenant: string, supernet: NewSupernet): Promise<Supernet>;
  /** By id, or by name. */
  get(tenant: string, idOrName: string): Promise<Supernet | null>;
  list(tenant: string, page?: PageOptions): Promise<Page<Supernet>>;
  /** With the storage key, for workers. */
  stored(tenant: string, idOrName: string): Promise<StoredSupernet | null>;
}

/** Right to work on a job: one attempt's. Once it is lost (expired or taken), every write with it is refused. */
export interface Lease {
  readonly jobId: string;
  readonly token: string;
  readonly attempt: number;
}
export interface Claim {
  readonly lease: Lease;
  readonly tenant: string;
  readonly job: Job;
  readonly request: JobRequest;
  /** `stop`: an earlier attempt was being stopped when its worker was lost: finish at once with what there is. */
  readonly wanted: 'run' | 'stop';
  /** Codes of the failures of earlier attempts, oldest first. */
  readonly failures: readonly string[];
  /** Of the request that made the job; null: it was not traced. */
  readonly traceparent: string | null;
}
/** What the user wants of a running job. */
export type Wanted = 'run' | 'stop' | 'cancel' | 'pause';
/** Thrown by every fenced write when the lease is not current any more: stop working, write nothing. */
export class LeaseLost extends Error {
  constructor(lease: Lease) {
    super(`Attempt ${lease.attempt} of ${lease.jobId} no longer holds the job's lease`);
    this.name = 'LeaseLost';
  }
}
export interface NewEvent {
  readonly type: EventType;
  readonly data: Json;
}
export interface Checkpoint {
  readonly name: string;
  /** Storage key. */
  readonly key: string;
  readonly sha256: string;
  readonly size: number;
  /** Small state beside the object. */
  readonly data: Json;
}
export interface StoredFile {
  /** Storage key. */
  readonly key: string;
  readonly sha256: string;
  readonly size: number;
  readonly filename: string;
  readonly contentType: string;
}
export type NewModel = Omit<Model, 'object' | 'created_at'> & {
  readonly storage: Readonly<Partial<Record<ModelFile, StoredFile>>>;
};
export interface Success {
  readonly result: JobResult;
  readonly stopReason: StopReason;
  readonly model?: NewModel;
  readonly supernet?: NewSupernet;
}
export type ActionOutcome =
  { readonly job: Job; readonly changed: boolean } | { readonly illegal: JobStatus } | 'missing';

export interface Jobs {
  /** Row, first `status` event and queue entry in one transaction. The dataset must be ready. Throws QuotaExceeded. */
  create(
    tenant: string,
    request: JobRequest,
    /** Throws KeyLost. */
    once?: Once<Job>,
    /** Of the request, where it is traced: what is done for the job belongs to the same trace. */
    traceparent?: string | null,
  ): Promise<Job | 'dataset-missing' | 'dataset-not-ready'>;
  get(tenant: string, id: string): Promise<Job | null>;
  list(
    tenant: string,
    page?: PageOptions & {
      status?: JobStatus | readonly JobStatus[] | undefined;
      kind?: Job['kind'] | undefined;
    },
  ): Promise<Page<Job>>;
  action(tenant: string, id: string, action: JobAction): Promise<ActionOutcome>;
  /**
   * Events after `after` (a seq, default 0), oldest first; null: no such job. limit default 100, at most 1000. A seq that
   * the job has not reached throws UnknownCursor.
   */
  events(
    tenant: string,
    id: string,
    page?: { after?: number | undefined; limit?: number | undefined },
  ): Promise<Page<JobEvent> | null>;
  /** In order of evaluation. */
  candidates(
    tenant: string,
    id: string,
    page?: PageOptions & { pareto?: boolean | undefined },
  ): Promise<Page<Candidate> | null>;

  /**
   * Takes a waiting job, this one or, of null, the one whose turn it is (turns.ts): next attempt, `running` (or still
   * `stopping`). null: there is nothing to take, or not yet (a failed job pauses before it is tried again).
   */
  claim(id: string | null, worker: string, leaseMs: number): Promise<Claim | null>;
  /** Prolongs the lease and says what the user wants; throws LeaseLost. */
  renew(lease: Lease, leaseMs: number): Promise<Wanted>;
  /** Sets stage and progress; a changed stage is also written as event `stage`, progress as event `progress`. */
  progress(lease: Lease, stage: Stage, progress: Progress): Promise<void>;
  appendEvents(lease: Lease, events: readonly NewEvent[]): Promise<void>;
  /** Inserts or replaces by genotype. */
  putCandidates(lease: Lease, candidates: readonly Candidate[]): Promise<void>;
  /**
   * Records an object already in the store as checkpoint `name`; the one it replaces becomes garbage. Failures are counted
   * from here on again: a checkpoint must hold more work than the one it replaces.
   */
  commitCheckpoint(lease: Lease, checkpoint: Checkpoint): Promise<void>;
  checkpoints(jobId: string): Promise<Checkpoint[]>;
  /** Model or supernet, result, and events `status` and `done`, at once. `cancelled`: cancelled meanwhile, nothing kept. */
  succeed(lease: Lease, success: Success): Promise<'succeeded' | 'cancelled'>;
  /**
   * Ends the attempt. With `retry` the job is queued again, until it has failed MAX_FAILURES times since its last checkpoint;
   * otherwise it has failed.
   * Returns the job's status afterwards.
   */
  fail(lease: Lease, error: { code: string; detail: string }, retry: boolean): Promise<JobStatus>;
  cancelled(lease: Lease): Promise<void>;
  /**
   * Ends the attempt without a failure (paused as asked, or the worker is shutting down): the job is `paused` if that
   * is still wanted, `cancelled` if that is, else queued again at once. Returns which.
   */
  release(lease: Lease): Promise<JobStatus>;
  /** Takes jobs from lost workers: queued again, or ended as was being asked. Returns their ids. */
  reap(): Promise<string[]>;
  /**
   * To be told once an attempt that lost its lease writes no more objects: what it stored becomes garbage, unless its
   * success was recorded after all.
   */
  lost(lease: Lease): Promise<void>;
  /** Numbers of jobs by status, all tenants; for metrics. */
  counts(): Promise<Partial<Record<JobStatus, number>>>;
}

/** A part of a job's work. `id`: a hash of all that its result depends on besides the job's images and seed. */
export interface NewPiece {
  readonly id: string;
  /** Only workers whose engine is called the same may take it: others would get other bytes. */
  readonly engine: string;
  /** JSON, written and read by workers only. */
  readonly spec: unknown;
  /** Of the stage that it is of, where jobs are traced. */
  readonly traceparent?: string | null;
}
export interface FinishedPiece {
  readonly id: string;
  /** JSON; its keys keep their order. */
  readonly result: unknown;
}
/** A helper's right to one piece. Once it has run out, its answer is refused. */
export interface PieceLease {
  readonly jobId: string;
  readonly id: string;
  readonly token: string;
}
export interface PieceClaim {
  readonly lease: PieceLease;
  readonly spec: unknown;
  readonly traceparent: string | null;
}
/** Who asks for a piece. */
export interface PieceTaker {
  readonly worker: string;
  readonly engine: string;
  /** This host has no room beside the job's own worker: only pieces of jobs on others. null: any. */
  readonly otherHostThan: string | null;
}
/** Parts of running jobs: offered and done by the job's own worker under the job's lease, and by helpers under theirs. */
export interface Pieces {
  /**
   * They are taken after those that were offered before. What is there stays as it is, with its result. Wakes so many workers.
   * Throws LeaseLost.
   */
  offer(lease: Lease, pieces: readonly NewPiece[], wake: number): Promise<void>;
  /**
   * Hands in what the job's worker did, takes the first of `wanted` that nobody does (null: none), and tells which of
   * them are done. What is taken stays the attempt's, and is free again for the next attempt. Throws LeaseLost.
   * `impatient`: takes one from a helper where nobody's is left.
   */
  next(
    lease: Lease,
    step: { wanted: readonly string[]; finished: readonly FinishedPiece[]; impatient: boolean },
  ): Promise<{ taken: string | null; done: FinishedPiece[] }>;
  /** Removes what is not done. */
  withdraw(lease: Lease): Promise<void>;
  /** The first piece of a running job that nobody does; null: none that this one may take. */
  claim(jobId: string, taker: PieceTaker, leaseMs: number): Promise<PieceClaim | null>;
  /** false: the lease is lost, as with `complete`. */
  renew(lease: PieceLease, leaseMs: number): Promise<boolean>;
  /** false: refused, because the lease has run out, the piece has been taken by another, or the job has ended. */
  complete(lease: PieceLease, result: unknown): Promise<boolean>;
  /** Gives a piece back undone and wakes another worker. After some failures only the job's own worker takes it. */
  release(lease: PieceLease, failed: boolean): Promise<void>;
  /** What a job asks for; null: there is no such job. */
  job(id: string): Promise<{ tenant: string; request: JobRequest } | null>;
  /** To be told after a refused answer: what it left in the store becomes garbage, if the job has ended. */
  late(jobId: string): Promise<void>;
}

export interface Models {
  get(tenant: string, id: string): Promise<Model | null>;
  list(tenant: string, page?: PageOptions): Promise<Page<Model>>;
  file(tenant: string, id: string, format: ModelFile): Promise<StoredFile | null>;
}

/** An archive that arrives in parts of `partSize` bytes, the last one shorter. */
export interface StoredUpload {
  readonly id: string;
  readonly tenant: string;
  readonly filename: string | null;
  /** Of the whole, bytes. */
  readonly size: number;
  readonly partSize: number;
  /** Storage key of the whole. */
  readonly key: string;
  /** The object store's own name of the upload. */
  readonly handle: string;
  /** What part URLs of this service carry instead of an API key. */
  readonly secret: string;
  /** The dataset it has become. */
  readonly dataset: string | null;
  readonly createdAt: Date;
  readonly expiresAt: Date;
}
export interface Uploads {
  /** Throws QuotaExceeded. */
  create(
    upload: Omit<StoredUpload, 'dataset' | 'createdAt'>,
    /** Throws KeyLost. */
    once?: Once<StoredUpload>,
  ): Promise<StoredUpload>;
  /** null: there is none, or it has expired. Without a tenant: any tenant's. */
  get(id: string, tenant?: string): Promise<StoredUpload | null>;
  /** Forgets up to `limit` expired uploads, each after `remove` of what arrived of it. Returns how many. */
  collect(limit: number, remove: (upload: StoredUpload) => Promise<void>): Promise<number>;
}

/** What a worker trains with. */
export interface WorkerEngine {
  readonly kind: string;
  readonly name: string;
  /** Why this one. */
  readonly reason: string;
}
/** What a worker could take. */
export interface WorkerLoad {
  /** Jobs that it may hold at once. */
  readonly slots: number;
  readonly free: number;
  /** For how long it could have taken a job and has taken none, milliseconds; null: it has no place. */
  readonly idleMs: number | null;
}
/** Worker processes, for those who watch the service; jobs are held by leases. Killed ones are known for another hour. */
export interface Workers {
  /** Says that a worker is there; to be said again every WORKER_SEEN_MS / 3 or sooner. */
  present(id: string, engine: WorkerEngine, load: WorkerLoad): Promise<void>;
  /** A worker ends. */
  gone(id: string): Promise<void>;
  /** How many other workers with an engine of this name are there, on this host and on others. */
  others(id: string, engine: string): Promise<{ here: number; elsewhere: number }>;
  /** The different engines of the workers that said so in the last WORKER_SEEN_MS. */
  engines(): Promise<WorkerEngine[]>;
  /** How many are in which state. */
  states(): Promise<Partial<Record<WorkerState, number>>>;
  /** By id. */
  list(page?: PageOptions): Promise<Page<Worker>>;
}

export interface DeliveryClaim {
  readonly id: string;
  readonly tenant: string;
  readonly type: string;
  /** From 1. */
  readonly attempt: number;
  readonly url: string;
  readonly secret: string;
  /** The webhook wants no deliveries any more. */
  readonly enabled: boolean;
  readonly body: string;
}
export interface DeliveryOutcome {
  /** Of the receiver's answer; null: there was none. */
  readonly responseStatus: number | null;
  /** null: delivered. */
  readonly error: string | null;
  /** Until the next attempt; null: there is none. */
  readonly retrySeconds: number | null;
  /** The receiver wants no more. */
  readonly disable?: boolean;
}
export interface MadeWebhook {
  readonly webhook: Webhook;
  readonly secret: string;
}
/** Deliveries are kept for 30 days. */
export interface Webhooks {
  /** The secret is given here once; it is kept, because it signs. Throws KeyLost. */
  create(tenant: string, webhook: WebhookRequest, once?: Once<MadeWebhook>): Promise<MadeWebhook>;
  get(tenant: string, id: string): Promise<Webhook | null>;
  list(tenant: string, page?: PageOptions): Promise<Page<Webhook>>;
  update(tenant: string, id: string, patch: WebhookPatch): Promise<Webhook | null>;
  /** With its deliveries, those that wait too. */
  delete(tenant: string, id: string): Promise<boolean>;
  /** null: no such webhook. */
  deliveries(
    tenant: string,
    id: string,
    page?: PageOptions & { status?: WebhookDelivery['status'] | undefined },
  ): Promise<Page<WebhookDelivery> | null>;
  ping(tenant: string, id: string): Promise<WebhookDelivery | null>;

  /** Takes a delivery that is due for one attempt of at most so many milliseconds; null: there is nothing to do. */
  claim(id: string, leaseMs: number): Promise<DeliveryClaim | null>;
  /** Says how that attempt went, and has it tried again. */
  conclude(id: string, attempt: number, outcome: DeliveryOutcome): Promise<void>;
}

export interface Garbage {
  /** Objects to be deleted after so many seconds (default: now), unless a transaction takes them back. */
  add(keys: readonly string[], seconds?: number): Promise<void>;
  /**
   * Hands up to `limit` due keys to `remove` (one that ends in '/' stands for all below it) and forgets each when that
   * resolves. Rejects with the first that does not; its key is due again in a minute. Returns how many.
   */
  collect(limit: number, remove: (key: string) => Promise<void>): Promise<number>;
}

export interface StoredResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
}
/** The right to answer under a key, until somebody takes it over. */
export interface KeyClaim {
  readonly tenant: string;
  readonly key: string;
  readonly route: string;
  readonly since: Date;
}
/** How something that is made at most once is answered. The answer is kept in the transaction that makes it. */
export interface Once<T> {
  readonly claim: KeyClaim;
  readonly answer: (made: T) => StoredResponse;
}
/** Another request has taken the key over: what this one was about to make was not made. */
export class KeyLost extends Error {
  override name = 'KeyLost';
  constructor({ key }: KeyClaim) {
    super(`The Idempotency-Key ${key} belongs to another request by now`);
  }
}
export type IdempotencyState =
  | { readonly state: 'new'; readonly claim: KeyClaim }
  | { readonly state: 'stored'; readonly response: StoredResponse }
  | { readonly state: 'in-flight' }
  | { readonly state: 'mismatch' };
/** Answers kept for 24 hours by tenant, key and route. */
export interface Idempotency {
  /**
   * A key whose answer has not come for `patience` seconds is taken over: its process has died. What is made and its answer
   * are one transaction (`Once`), so that one which lives after all makes nothing.
   */
  begin(
    tenant: string,
    key: string,
    route: string,
    bodyHash: string,
    patience: number,
  ): Promise<IdempotencyState>;
  /** The request came to nothing: the key is free again, unless it was taken over or has its answer. */
  abandon(claim: KeyClaim): Promise<void>;
}

export type OutboxEntry = {
  [N in QueueJobName]: { readonly name: N; readonly payload: QueuePayload<N>; readonly dedupe: string };
}[QueueJobName];
export interface Outbox {
  /**
   * Hands up to `limit` waiting entries to `send`, oldest first, and marks them dispatched when it resolves;
   * entries of a failed `send` stay. Parallel dispatchers take different entries. Returns how many were sent.
   */
  dispatch(limit: number, send: (entry: OutboxEntry) => Promise<void>): Promise<number>;
  /**
   * What should be in the queue: waiting jobs and validating datasets older than a moment; entries of one name at a time. For
   * the reconciler.
   */
  requeueCandidates(): AsyncIterable<readonly OutboxEntry[]>;
  /** Deletes what is older than it is promised to be kept: answers kept for keys, sent entries, deliveries, the audit log. */
  forget(): Promise<void>;
}

/** Failures without a checkpoint in between after which a retryable job has failed for good. */
export const MAX_FAILURES = 5;

/** A worker that has not said for so long that it is there is gone, milliseconds. */
export const WORKER_SEEN_MS = 60_000;
/** One that could take a job, and has taken none for so long while jobs waited as long, does not work, milliseconds. */
export const WORKER_STALLED_MS = 300_000;
export class NameTaken extends Error {
  constructor(name: string) {
    super(`The name ${name} is taken`);
    this.name = 'NameTaken';
  }
}
/** A tenant would have more than it may. */
export class QuotaExceeded extends Error {
  readonly quota: keyof Quotas;
  constructor(quota: keyof Quotas, used: number, wanted: number, limit: number) {
    const needs = wanted > 0 ? `, this needs ${wanted}` : '';
    super(`The quota of ${limit} ${quota} does not allow it: ${Math.ceil(used)} are used${needs}`);
    this.name = 'QuotaExceeded';
    this.quota = quota;
  }
}
/** An upload has become a dataset already. */
export class UploadUsed extends Error {
  constructor(upload: string) {
    super(`The upload ${upload} has become a dataset already, or it has expired`);
    this.name = 'UploadUsed';
  }
}
/** What was given as the end of the page before is not in this list: another's, of another list, or deleted since. */
export class UnknownCursor extends Error {
  constructor() {
    super('The cursor is not of this list, or what it stood for was deleted: begin again without it');
    this.name = 'UnknownCursor';
  }
}
