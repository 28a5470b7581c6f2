import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';

export interface Part {
  name: string;
  filename?: string;
  /** A text value, bytes, or the path of a file to stream. */
  value: string | Uint8Array | { path: string } | AsyncIterable<Uint8Array>;
}

const escape = (text: string) => text.replace(/"/g, '%22').replace(/\r/g, '%0D').replace(/\n/g, '%0A');

/** A multipart/form-data body that is streamed: a file of any size costs one read buffer of memory. */
export function multipart(parts: readonly Part[]): { body: AsyncIterable<Uint8Array>; contentType: string } {
  const boundary = `ntaa-${randomBytes(16).toString('hex')}`;
  async function* body() {
    for (const part of parts) {
      const file = part.filename === undefined ? '' : `; filename="${escape(part.filename)}"`;
      const type = part.filename === undefined ? '' : 'content-type: application/octet-stream\r\n';
      yield Buffer.from(
        `--${boundary}\r\ncontent-disposition: form-data; name="${escape(part.name)}"${file}\r\n${type}\r\n`,
      );
      yield* content(part.value);
      yield Buffer.from('\r\n');
    }
    yield Buffer.from(`--${boundary}--\r\n`);
  }
  return { body: body(), contentType: `multipart/form-data; boundary=${boundary}` };
}

async function* content(value: Part['value']): AsyncGenerator<Uint8Array> {
  if (typeof value === 'string') yield Buffer.from(value);
  else if (value instanceof Uint8Array) yield value;
  else if ('path' in value) yield* createReadStream(value.path) as AsyncIterable<Uint8Array>;
  else yield* value;
}
