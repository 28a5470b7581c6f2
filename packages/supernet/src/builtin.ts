/** The supernet that ships with the code, pretrained on formula-driven images; see its card in docs/tiny.md. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { SearchSpace } from '@ntaa/contracts';
import { readSafetensors } from './safetensors.js';
import type { NamedTensors } from './tensors.js';

/** Written into the file's metadata by the pretraining script. */
export interface SupernetCard {
  name: string;
  source: string;
  paradigm: string;
  space: SearchSpace;
  metrics: Record<string, unknown>;
}

export interface BuiltinSupernet {
  card: SupernetCard;
  tensors: NamedTensors;
  /** Of the file, hex. */
  sha256: string;
  /** Bytes of the file. */
  size: number;
}

export function builtinSupernet(): BuiltinSupernet {
  const bytes = readFileSync(new URL('../assets/tiny.safetensors', import.meta.url));
  const { tensors, metadata } = readSafetensors(bytes);
  const card = JSON.parse(metadata['card'] ?? 'null') as SupernetCard | null;
  if (!card)
    throw new Error('assets/tiny.safetensors carries no card; make it again with npm run pretrain:tiny');
  return { card, tensors, sha256: createHash('sha256').update(bytes).digest('hex'), size: bytes.length };
}
