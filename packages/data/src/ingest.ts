import type { DatasetFormat } from '@ntaa/contracts';
import type { IngestLimits, IngestResult, Progress } from './types.js';

export interface IngestOptions {
  /** Local file; its kind (zip, tar, gzip'd tar) is told by content. */
  archive: string;
  /** Folder that gets images.bin and index.json, only when all went well. */
  out: string;
  /** Folder for temporary files; nothing of ours is left there, failure or not. */
  scratch: string;
  format?: DatasetFormat;
  limits?: Partial<IngestLimits>;
  onProgress?: Progress;
}

/** @throws {DatasetError} for what is refused whole. */
export function ingest(_options: IngestOptions): Promise<IngestResult> {
  throw new Error('being written');
}
