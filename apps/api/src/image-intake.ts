/** Images on their way into a prediction, in bounded memory whatever they are and however many come at a time. */
import { ProblemError } from '@ntaa/contracts';
import { decodeImage, type PackOptions } from '@ntaa/data';
import type { Readable } from 'node:stream';

/** Encoded bytes that all requests together may hold. */
const HELD = 22e6;
/** What decoding one image may take: 12 megapixels of a progressive JPEG or an interlaced PNG; any that comes in rows. */
const DECODING = 36e6;

export class ImageIntake {
  #held = 0;
  #turn: Promise<unknown> = Promise.resolve();

  /** Reads an image and decodes it, one after the other of all requests. `check` is told its size and may refuse it. */
  async decode(file: Readable, options: PackOptions, check: (size: number) => void): Promise<Uint8Array> {
    const chunks: Buffer[] = [];
    let size = 0;
    try {
      for await (const chunk of file as AsyncIterable<Buffer>) {
        size += chunk.length;
        this.#held += chunk.length;
        if (this.#held > HELD)
          throw new ProblemError(
            'too-many-requests',
            'Too many images are being read at once; try again soon.',
          );
        chunks.push(chunk);
      }
      check(size);
      const turn = this.#turn.then(() => decodeImage(Buffer.concat(chunks.splice(0)), options, DECODING));
      this.#turn = turn.catch(() => undefined);
      return await turn;
    } finally {
      this.#held -= size;
    }
  }
}
