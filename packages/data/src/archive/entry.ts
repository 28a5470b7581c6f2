import { DatasetError } from '@ntaa/contracts';

/** A regular file inside an archive, its path made safe. */
export interface ArchiveEntry {
  path: string;
  /** Unpacked size as the archive declares it, bytes. */
  size: number;
  /**
   * The content. Once begun it has to be read to its end, before the next entry is asked for.
   * @throws {DatasetError} `archive-corrupt` when it is not what the archive declares.
   */
  chunks(): AsyncIterable<Buffer>;
}

/** Errors of the readers become `archive-corrupt`; those of the disk and our own stay what they are. */
export function corrupt(error: unknown, where?: string): unknown {
  if (error instanceof DatasetError) return error;
  if (error instanceof Error && 'syscall' in error) return error;
  const why = error instanceof Error ? error.message : String(error);
  return new DatasetError('archive-corrupt', `the archive is damaged: ${why}`, where);
}

/** The whole content of a small entry. */
export async function readAll(entry: ArchiveEntry): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of entry.chunks()) parts.push(chunk);
  return Buffer.concat(parts);
}
