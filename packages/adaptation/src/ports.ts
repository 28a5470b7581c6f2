import type { Candidate, EventType, Progress, Stage } from '@ntaa/contracts';

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
