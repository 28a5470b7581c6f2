/**
 * Pieces of a job that another process can do. A piece is a subject (weights, and what is to be done with them; one
 * object for all pieces of a batch) and architectures.
 */
import type { Genotype, Metrics, SearchSpace } from '@ntaa/contracts';
import { cost } from '@ntaa/nas';
import { readSafetensors, writeSafetensors, type NamedTensors } from '@ntaa/supernet';
import type { Task } from '@ntaa/tasks';
import type { CurvePoint } from './curves.js';
import type { Evaluation, Exam } from './evaluate.js';
import type { Plan } from './plan.js';
import type { ObjectRef } from './ports.js';

/** What is to be done with the weights that it comes with. */
type Work =
  /** Judge each architecture: `Evaluation[]`. */
  | { readonly kind: 'judge'; readonly exam: Exam }
  /** Measure the one architecture on the test split of a source: `Measured`. */
  | { readonly kind: 'measure' }
  /** Finetune the one architecture, whose own weights they are, for the first part of the schedule: `Raced`. */
  | { readonly kind: 'race'; readonly role: string; readonly plan: Plan; readonly steps: number };

export interface Subject {
  readonly work: Work;
  readonly task: Task['name'];
  readonly space: SearchSpace;
  readonly outputs: number;
}

/** A subnet of a pretrained supernet. */
export interface Measured {
  readonly metrics: Metrics;
  /** How far its features have collapsed, where they have: the spread that is left, as a share of what is possible. */
  readonly collapsed?: number;
}

/** A finalist after its part of the schedule. */
export interface Raced {
  readonly evaluation: Evaluation;
  /** Training seconds an image. */
  readonly seconds: number;
  /** That it trained. */
  readonly steps: number;
  readonly curve: readonly CurvePoint[];
  /** Its weights, average and momentum: a checkpoint without a state. */
  readonly weights: ObjectRef;
}

export const encodeSubject = (subject: Subject, tensors: NamedTensors): Uint8Array =>
  writeSafetensors(tensors, { subject: JSON.stringify(subject) });

export function decodeSubject(bytes: Uint8Array): { subject: Subject; tensors: NamedTensors } {
  const { tensors, metadata } = readSafetensors(bytes);
  return { subject: JSON.parse(metadata['subject']!) as Subject, tensors };
}

/** Forward passes that make a piece worth its two trips to the database, multiply-accumulates: a fifth of a second on a core. */
const PIECE_MACS = 1.5e9;
/** The same for a finalist, which is a piece by itself and whose weights travel: more than a second. */
export const RACE_MACS = 5e9;
/** Forward passes that are worth the start of helpers for them alone. */
export const STARTING_MACS = 15e9;
/** Pieces of a batch, at most. */
const MOST = 256;

/**
 * Cuts a batch of architectures, each seen by so many images, into pieces: indices, the dearest first. By what they
 * cost, not by how fast this machine is, so that the attempt after this one finds the same pieces done.
 */
export function cut(
  { space, outputs }: Pick<Subject, 'space' | 'outputs'>,
  genotypes: readonly Genotype[],
  images: number,
): number[][] {
  const work = genotypes.map((genotype) => images * cost(space, genotype, outputs).macs);
  const total = work.reduce((sum, value) => sum + value, 0);
  const enough = Math.max(PIECE_MACS, total / MOST);
  const dearestFirst = genotypes.map((_, i) => i).sort((a, b) => work[b]! - work[a]! || a - b);
  const pieces: number[][] = [];
  let filled = Infinity;
  for (const index of dearestFirst) {
    // Two threads share a piece: an even number.
    if (filled >= enough && (pieces.at(-1)?.length ?? 0) % 2 === 0) {
      pieces.push([]);
      filled = 0;
    }
    pieces.at(-1)!.push(index);
    filled += work[index]!;
  }
  return pieces;
}
