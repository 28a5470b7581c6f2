/**
 * Pieces of a job that another process can do. A piece is a subject (weights, and what is to be done with them; one
 * object for all pieces of a batch) and architectures.
 */
import type { Genotype, Metrics, SearchSpace } from '@ntaa/contracts';
import { cost } from '@ntaa/nas';
import { readSafetensors, writeSafetensors, type NamedTensors } from '@ntaa/supernet';
import type { Task } from '@ntaa/tasks';
import type { Exam } from './evaluate.js';

/** What is to be done with the weights that it comes with. */
type Work =
  /** Judge each architecture: `Evaluation[]`. */
  | { readonly kind: 'judge'; readonly exam: Exam }
  /** Measure the one architecture on the test split of a source: `Measured`. */
  | { readonly kind: 'measure' };

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

export const encodeSubject = (subject: Subject, tensors: NamedTensors): Uint8Array =>
  writeSafetensors(tensors, { subject: JSON.stringify(subject) });

export function decodeSubject(bytes: Uint8Array): { subject: Subject; tensors: NamedTensors } {
  const { tensors, metadata } = readSafetensors(bytes);
  return { subject: JSON.parse(metadata['subject']!) as Subject, tensors };
}

/**
 * A piece holds an eighth of what is left of its batch: large ones first, small ones for the end, where all wait for the
 * last. At least so many multiply-accumulates, or it is not worth its trips to the database: a tenth of a second on a core.
 */
const SHARE = 1 / 8;
const LEAST_MACS = 0.5e9;
/** Forward passes that are worth the start of helpers for them alone. */
export const STARTING_MACS = 15e9;
/** Pieces of a batch, at most. */
const MOST = 256;

/**
 * Cuts a batch of architectures, each seen by so many images, into pieces: indices, the dearest first. By what they
 * cost, not by how fast this machine is, so that the attempt after this one finds the same pieces done. A piece is shared
 * by so many threads.
 */
export function cut(
  { space, outputs }: Pick<Subject, 'space' | 'outputs'>,
  genotypes: readonly Genotype[],
  images: number,
  threads: number,
): number[][] {
  const work = genotypes.map((genotype) => images * cost(space, genotype, outputs).macs);
  let left = work.reduce((sum, value) => sum + value, 0);
  const least = Math.max(LEAST_MACS, left / MOST);
  const dearestFirst = genotypes.map((_, i) => i).sort((a, b) => work[b]! - work[a]! || a - b);
  const pieces: number[][] = [];
  for (let at = 0; at < dearestFirst.length;) {
    const piece: number[] = [];
    const enough = Math.max(least, SHARE * left);
    // As many for each thread.
    for (let filled = 0; at < dearestFirst.length && (filled < enough || piece.length % threads > 0); at++) {
      piece.push(dearestFirst[at]!);
      filled += work[dearestFirst[at]!]!;
    }
    left -= piece.reduce((sum, index) => sum + work[index]!, 0);
    pieces.push(piece);
  }
  return pieces;
}
