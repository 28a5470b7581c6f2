import { createHash } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';

export interface Downloaded {
  path: string;
  size: number;
  /** Hex digest of the received bytes. */
  sha256: string;
}

/**
 * Writes a response's body to `path` by way of `path.part`, and checks it: the length against Content-Length, the
 * digest against an ETag that is a sha256. A file that fails is removed and the error thrown.
 */
export async function saveVerified(response: Response, path: string): Promise<Downloaded> {
  const part = `${path}.part`;
  const hash = createHash('sha256');
  let size = 0;
  async function* measured(): AsyncGenerator<Uint8Array> {
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      hash.update(chunk);
      size += chunk.length;
      yield chunk;
    }
  }
  // Opened here: a stream that is still opening its file when the response breaks off would make it after its removal.
  const file = await open(part, 'w');
  try {
    await pipeline(measured, file.createWriteStream());
    const sha256 = hash.digest('hex');
    const length = response.headers.get('content-length');
    if (length !== null && Number(length) !== size)
      throw new Error(`The download broke off: ${size} of ${length} bytes arrived`);
    const etag = (response.headers.get('etag') ?? '').replace(/^W\//, '').replace(/"/g, '');
    if (/^[0-9a-f]{64}$/.test(etag) && etag !== sha256)
      throw new Error(`The download is damaged: its sha256 is ${sha256}, the service named ${etag}`);
    await rename(part, path);
    return { path, size, sha256 };
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(part, { force: true });
    throw error;
  }
}
