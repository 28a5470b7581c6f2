import { Type, type Static } from 'typebox';

/** Every error code the service can answer with, its HTTP status and title. RFC 9457 `type` is derived from the code. */
export const PROBLEMS = {
  'malformed-request': [400, 'The request could not be parsed'],
  unauthorized: [401, 'A valid API key is needed'],
  forbidden: [403, 'The API key lacks the scope for this'],
  'not-found': [404, 'There is no such thing'],
  'method-not-allowed': [405, 'This method is not supported here'],
  conflict: [409, 'The current state does not allow this'],
  'idempotency-in-flight': [409, 'A request with this Idempotency-Key is still being answered'],
  'payload-too-large': [413, 'The body is too large'],
  'unsupported-media-type': [415, 'This content type is not accepted here'],
  'range-not-satisfiable': [416, 'The requested range lies outside the file'],
  'validation-failed': [422, 'The request is not valid'],
  'idempotency-mismatch': [422, 'This Idempotency-Key was used with another body'],
  'constraint-infeasible': [422, 'No architecture of the search space meets the constraints'],
  'quota-exceeded': [422, 'More than the quota allows'],
  'image-unreadable': [422, 'The image could not be decoded'],
  'too-many-requests': [429, 'Too many requests'],
  'too-many-jobs': [429, 'Too many jobs that have not ended'],
  'compute-exhausted': [429, "The month's compute is used up"],
  internal: [500, 'Something went wrong on our side'],
  unavailable: [503, 'A service this depends on is not reachable'],
} as const satisfies Record<string, readonly [number, string]>;
export type ProblemCode = keyof typeof PROBLEMS;

export const ProblemDetail = Type.Object({
  /** JSON pointer into the body, or the name of a query parameter, header or file. */
  pointer: Type.String(),
  code: Type.String(),
  detail: Type.String(),
});
export type ProblemDetail = Static<typeof ProblemDetail>;

/** RFC 9457 problem document: the body of every error. */
export const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    instance: Type.String(),
    code: Type.String(),
    request_id: Type.String(),
    errors: Type.Array(ProblemDetail),
  },
  { $id: 'Problem' },
);
export type Problem = Static<typeof Problem>;

/** An error a caller can act on: answered as a problem document. */
export class ProblemError extends Error {
  readonly code: ProblemCode;
  readonly errors: readonly ProblemDetail[];
  constructor(code: ProblemCode, detail: string, errors: readonly ProblemDetail[] = []) {
    super(detail);
    this.name = 'ProblemError';
    this.code = code;
    this.errors = errors;
  }
}

/** Why a dataset was refused as a whole. */
export const DATASET_CODES = [
  'archive-unsafe-path',
  'archive-symlink',
  'archive-special-file',
  'archive-encrypted',
  'archive-too-large',
  'archive-too-many-entries',
  'archive-corrupt',
  'archive-duplicate-path',
  'archive-unsupported',
  'format-unknown',
  'format-invalid',
  'no-images',
  'too-few-classes',
  'too-few-images',
  'too-many-classes',
  'degenerate-target',
  'reid-protocol',
  'quota-exceeded',
  'decoder-crashed',
  // Through no fault of the archive, and after many tries:
  'upload-missing',
  'storage-unavailable',
  'internal',
] as const;
export type DatasetCode = (typeof DATASET_CODES)[number];

/** A dataset, archive or annotation file that is refused whole. `where`: the entry or line at fault. */
export class DatasetError extends Error {
  readonly code: DatasetCode;
  readonly where: string | undefined;
  constructor(code: DatasetCode, message: string, where?: string) {
    super(message);
    this.name = 'DatasetError';
    this.code = code;
    this.where = where;
  }
}

/** Why a job failed. `retryable` failures are tried again by another attempt, the others end the job. */
export const JOB_FAILURES = {
  'dataset-unavailable': { retryable: false },
  'degenerate-target': { retryable: false },
  'reid-protocol': { retryable: false },
  'too-few-images': { retryable: false },
  'constraint-infeasible': { retryable: false },
  'training-diverged': { retryable: false },
  'export-verification-failed': { retryable: false },
  'out-of-memory': { retryable: true },
  'storage-unavailable': { retryable: true },
  'worker-lost': { retryable: true },
  internal: { retryable: true },
} as const satisfies Record<string, { retryable: boolean }>;
export type JobFailureCode = keyof typeof JOB_FAILURES;
export class JobError extends Error {
  readonly code: JobFailureCode;
  constructor(code: JobFailureCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'JobError';
    this.code = code;
  }
}
