import type { Candidate, EventType, Genotype, Progress, Stage } from '@ntaa/contracts';

/**
 * What a running job needs from its surroundings. Guarantees asked of an implementation: calls keep their order;
 * `checkpoint.save` resolves only when the bytes would survive the death of this process; nothing else blocks training.
 */
export interface Ports {
  progress(stage: Stage, progress: Progress): void;
  events(events: readonly { type: EventType; data: Record<string, unknown> }[]): void;
  /** The evaluated architectures so far, whole; replaces what was said before. */
  candidates(records: readonly Candidate[]): void;
  checkpoint: {
    /** The last committed checkpoint of this job, of whatever attempt. */
    load(): Promise<Uint8Array | null>;
    save(bytes: Uint8Array): Promise<void>;
  };
  /** What the user wants now; asked between steps. */
  wanted(): 'run' | 'stop' | 'cancel' | 'pause';
  /** Milliseconds since the epoch. */
  now(): number;
  /** Other workers that may do pieces of the job; without, all is done here. */
  elsewhere?: Elsewhere;
}

/** An object in the store. */
export interface ObjectRef {
  readonly key: string;
  /** Of its bytes, hex. */
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
}

/**
 * A part of a job's work: what is to be done to which architectures is in the subject, see pieces.ts. JSON. Without a subject
 * there is nothing to be done but to be there: a helper starts while the job's own worker does.
 */
export interface PieceSpec {
  readonly subject: ObjectRef | null;
  readonly genotypes: readonly Genotype[];
}
export interface FinishedPiece {
  readonly id: string;
  /** JSON. */
  readonly result: unknown;
}

export interface NextPiece {
  readonly wanted: readonly string[];
  /** What was done here since it was asked last. */
  readonly finished: readonly FinishedPiece[];
  /** Takes one from a helper, whose answer will be refused, where there is none that nobody does. */
  readonly impatient: boolean;
}

/**
 * Where pieces of a job are offered to other workers. A piece's result is a function of its spec, the job's images and
 * its seed, so it does not matter who has done it, or in which attempt.
 */
export interface Elsewhere {
  /** How many workers of the same engine may be there to help; 0: offering is not worth it. */
  helpers(): Promise<number>;
  /** Keeps bytes for whoever does the pieces, until the job has ended. */
  put(bytes: Uint8Array): Promise<ObjectRef>;
  get(object: ObjectRef): Promise<Uint8Array>;
  /**
   * Returns their ids, in order, which is that in which they are taken, after what was offered before. What an earlier
   * attempt has got done is done. `wake`: so many helpers at most are worth their start.
   */
  offer(pieces: readonly PieceSpec[], wake: number): Promise<readonly string[]>;
  /** Takes the first of `wanted` that nobody does, null: none; and tells which of them are done. */
  next(step: NextPiece): Promise<{ taken: string | null; done: readonly FinishedPiece[] }>;
  /** The rest is not wanted any more. */
  withdraw(): Promise<void>;
}

/** Thrown out of a job that was cancelled or paused; a paused one has saved its checkpoint. */
export class Interrupted extends Error {
  readonly wanted: 'cancel' | 'pause';
  constructor(wanted: 'cancel' | 'pause') {
    super(`interrupted: ${wanted}`);
    this.name = 'Interrupted';
    this.wanted = wanted;
  }
}
