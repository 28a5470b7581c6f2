import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Upload, UploadPart } from '@ntaa/contracts';
import { ApiError, toApiError } from './errors.js';

/** How often a part is sent before the upload is given up, and the pause after the first failure, ms; it doubles. */
const TRIES = 5;
const PAUSE = 500;

/** Sends those parts of a file that have not arrived, one after the other. One part is held in memory. */
export async function sendParts(path: string, upload: Upload, signal?: AbortSignal): Promise<void> {
  const file = await open(path);
  try {
    for (const part of upload.parts) {
      if (part.received) continue;
      const bytes = Buffer.alloc(part.size);
      const { bytesRead } = await file.read(bytes, 0, part.size, part.offset);
      if (bytesRead < part.size) throw new Error(`${path} became shorter while it was being sent`);
      await sendPart(bytes, part, signal);
    }
  } finally {
    await file.close();
  }
}

async function sendPart(body: Uint8Array, part: UploadPart, signal?: AbortSignal): Promise<void> {
  for (let attempt = 1; ; attempt++)
    try {
      // No API key: the URL is the permission, and may be another server's.
      const response = await fetch(part.url, { method: 'PUT', body, ...(signal && { signal }) });
      if (!response.ok) throw await toApiError(response);
      await response.arrayBuffer();
      return;
    } catch (error) {
      const final = error instanceof ApiError && error.status < 500 && !error.transient;
      if (final || attempt === TRIES || signal?.aborted) throw error;
      await sleep(PAUSE * 2 ** (attempt - 1), undefined, signal ? { signal } : {});
    }
}
