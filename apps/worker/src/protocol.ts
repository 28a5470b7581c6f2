/**
 * What supervisor and child tell each other over Node's IPC channel. A child works on one assignment and ends.
 *
 * Objects in the store: what lies under `jobs/{jobId}/` (checkpoints) is deleted when the job has ended. A model or
 * supernet goes under the attempt's `outputs` just before `done`, and is deleted when the attempt does not succeed.
 */
import type {
  Candidate,
  DatasetCounts,
  DatasetFormat,
  DatasetReport,
  JobFailureCode,
  JobRequest,
  Progress,
  Stage,
} from '@ntaa/contracts';
import type { NextPiece, PieceSpec } from '@ntaa/adaptation';
import type { EngineChoice, RunningEngine } from '@ntaa/config';
import type {
  Checkpoint,
  NewEvent,
  NewSupernet,
  ReadyDataset,
  StoredSupernet,
  Success,
  Wanted,
} from '@ntaa/db';
import type { StoreConfig } from '@ntaa/storage';

export interface StoredObjectRef {
  /** Storage key. */
  readonly key: string;
  /** Hex digest of the object's bytes. */
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
}
/** Where a ready dataset's packed images lie: the database's `pack` of a dataset. */
export interface DatasetPack {
  readonly images: StoredObjectRef;
  readonly index: StoredObjectRef;
  /** The images decoded, by resolution (px); other resolutions are decoded by the jobs that want them. */
  readonly packed: Readonly<Record<string, StoredObjectRef>>;
}

interface Common {
  /** Empty folder of this attempt alone; the supervisor removes it. */
  readonly scratch: string;
  /** How to open the object store. */
  readonly store: StoreConfig;
}
export interface DatasetAssignment extends Common {
  readonly kind: 'dataset';
  readonly datasetId: string;
  /** null: to be detected. */
  readonly format: DatasetFormat | null;
  readonly uploadKey: string;
  /** Of the upload, hex; null: not known yet. */
  readonly sha256: string | null;
}
export interface JobAssignment extends Common {
  readonly kind: 'job';
  readonly jobId: string;
  readonly attempt: number;
  /** When the first attempt started, RFC 3339: the budget counts from here. */
  readonly startedAt: string;
  readonly request: JobRequest;
  /** `stop`: finish at once with what the checkpoints hold. */
  readonly wanted: 'run' | 'stop';
  readonly dataset: AssignedDataset;
  /** The labelled one of domain adaptation. */
  readonly sourceDataset: AssignedDataset | null;
  /** `key` null: the built-in one. null: a pretrain job. */
  readonly supernet: StoredSupernet | null;
  readonly checkpoints: readonly Checkpoint[];
  /** Prefix of the storage keys of what this attempt makes. */
  readonly outputs: string;
  readonly engine: EngineChoice;
  /** An earlier attempt ran out of memory: batches of half the size. */
  readonly halfBatch: boolean;
  /** Threads of an embedded engine. */
  readonly threads: number;
  /** The GPU that is this attempt's alone, as CUDA_VISIBLE_DEVICES names it; null: the engine's choice, if any. */
  readonly gpu: string | null;
}
/** To do pieces of another worker's job, as they come. */
export interface HelpAssignment
  extends
    Common,
    Pick<
      JobAssignment,
      'jobId' | 'request' | 'dataset' | 'sourceDataset' | 'supernet' | 'engine' | 'threads' | 'gpu'
    > {
  readonly kind: 'help';
}
export interface AssignedDataset {
  readonly id: string;
  /** Of the uploaded archive. */
  readonly sha256: string;
  readonly format: DatasetFormat;
  readonly counts: DatasetCounts;
  /** In the order of the index's class numbers. */
  readonly labels: readonly { name: string; count: number }[];
  readonly pack: DatasetPack;
}
/** To start the engine and say what it is. */
export interface DescribeAssignment {
  readonly kind: 'describe';
  readonly engine: EngineChoice;
  readonly gpu: string | null;
}
export type Assignment = DatasetAssignment | JobAssignment | HelpAssignment | DescribeAssignment;

export type DatasetOutcome =
  | { readonly status: 'ready'; readonly ready: ReadyDataset }
  | {
      readonly status: 'invalid';
      readonly report: DatasetReport;
      readonly found?: { format?: DatasetFormat; counts?: DatasetCounts };
    };
export type JobOutcome =
  | { readonly status: 'succeeded'; readonly success: Success }
  /** It obeyed a `cancel`, or a `pause` (its last checkpoint is committed). */
  | { readonly status: 'cancelled' | 'paused' };
export type EngineOutcome =
  | {
      readonly status: 'described';
      readonly engine: RunningEngine;
      /** The built-in one. */
      readonly supernet: Omit<NewSupernet, 'id' | 'key'>;
    }
  | { readonly status: 'unusable'; readonly detail: string };
export type Outcome = DatasetOutcome | JobOutcome | EngineOutcome;

export interface Failure {
  readonly code: JobFailureCode;
  /** For the user: one sentence without paths or stack traces. */
  readonly detail: string;
  readonly retryable: boolean;
}

export type ParentMessage =
  | { readonly type: 'start'; readonly assignment: Assignment }
  /** The latest wish counts; `run` takes an earlier one back. */
  | { readonly type: 'signal'; readonly action: Wanted }
  /** A helper's next piece. */
  | { readonly type: 'piece'; readonly spec: PieceSpec }
  /** What message `id` asked for is committed (`ok`), or was refused. `value`: the answer to a question. */
  | {
      readonly type: 'ack';
      readonly id: number;
      readonly ok: boolean;
      readonly value?: unknown;
      readonly error?: string;
    };

/** What a job's trainer asks about pieces of its work, see Elsewhere in packages/adaptation. */
export type PieceQuestion =
  | { readonly ask: 'helpers' }
  | { readonly ask: 'offer'; readonly pieces: readonly PieceSpec[]; readonly wake: number }
  | ({ readonly ask: 'next' } & NextPiece)
  | { readonly ask: 'withdraw' };

export type ChildMessage =
  | { readonly type: 'progress'; readonly stage: Stage; readonly progress: Progress }
  | { readonly type: 'events'; readonly events: readonly NewEvent[] }
  | { readonly type: 'candidates'; readonly records: readonly Candidate[] }
  | { readonly type: 'checkpoint'; readonly id: number; readonly checkpoint: Checkpoint }
  | { readonly type: 'pieces'; readonly id: number; readonly question: PieceQuestion }
  /** A helper's answer to the piece that it was given. */
  | { readonly type: 'answer'; readonly result: unknown }
  | { readonly type: 'done'; readonly id: number; readonly outcome: Outcome }
  | ({ readonly type: 'failed'; readonly id: number } & Failure);
