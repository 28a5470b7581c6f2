/** Memory of a computation planned ahead: buffers that are never needed at the same time share their place. */

/** A buffer needed from step `first` to step `last`, both included. `offset` is set by place(). */
export interface Buffer {
  bytes: number;
  first: number;
  last: number;
  offset: number;
}

/** Gives every buffer a place, larger ones first, each the lowest that is free while it is needed; returns the bytes in all. */
export function place(buffers: readonly Buffer[]): number {
  const placed: Buffer[] = [];
  let total = 0;
  for (const buffer of [...buffers].sort((a, b) => b.bytes - a.bytes)) {
    buffer.offset = 0;
    for (const other of placed) {
      if (other.last < buffer.first || other.first > buffer.last) continue;
      if (other.offset >= buffer.offset + buffer.bytes) break;
      buffer.offset = Math.max(buffer.offset, Math.ceil((other.offset + other.bytes) / 64) * 64);
    }
    placed.splice(lowerBound(placed, buffer.offset), 0, buffer);
    total = Math.max(total, buffer.offset + buffer.bytes);
  }
  return total;
}

/** Index of the first buffer at this offset or later; they are sorted by offset. */
function lowerBound(placed: readonly Buffer[], offset: number): number {
  const index = placed.findIndex((other) => other.offset >= offset);
  return index < 0 ? placed.length : index;
}
