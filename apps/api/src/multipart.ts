/** Reading multipart forms part by part, with errors a caller can act on. */
import type { MultipartFile } from '@fastify/multipart';
import { ProblemError, type ProblemDetail } from '@ntaa/contracts';
import type { FastifyRequest } from 'fastify';

export interface FormOptions {
  /** Names of the text fields there may be. */
  readonly fields: readonly string[];
  /** Names of file parts; '*' for any. */
  readonly fileNames: readonly string[];
  readonly maxFiles: number;
  /** Bytes of one file. */
  readonly maxFileBytes: number;
}

/** No field of ours is longer, bytes. */
const MAX_FIELD_BYTES = 1000;

/**
 * Hands every file part to `onFile` as it arrives, one after the other, and returns the text fields. Throws
 * ProblemError for everything that is wrong with the form.
 */
export async function readForm(
  request: FastifyRequest,
  options: FormOptions,
  onFile: (part: MultipartFile) => Promise<void>,
): Promise<Record<string, string>> {
  if (!request.isMultipart())
    throw new ProblemError('unsupported-media-type', 'Send the form as multipart/form-data.');
  // Its end was announced before anybody listened, and the parser would wait for it.
  if (request.raw.destroyed && !request.raw.readableEnded)
    throw new ProblemError('malformed-request', 'The connection ended before the form did.');
  const fields: Record<string, string> = {};
  const errors: ProblemDetail[] = [];
  let files = 0;
  const limits = {
    fileSize: options.maxFileBytes,
    files: options.maxFiles + 10,
    fields: 20,
    parts: options.maxFiles + 30,
  };
  try {
    for await (const part of request.parts({ limits: { ...limits, fieldSize: MAX_FIELD_BYTES } })) {
      // A part need not have a name, whatever the types say.
      const pointer = `/${(part.fieldname as string | undefined) ?? ''}`;
      if (part.type === 'file') {
        const known = options.fileNames.includes('*') || options.fileNames.includes(part.fieldname);
        if (known && ++files <= options.maxFiles) await onFile(part);
        else {
          part.file.resume();
          const detail = known
            ? `at most ${options.maxFiles} ${options.maxFiles > 1 ? 'files are' : 'file is'} accepted`
            : `send the file as ${options.fileNames.join(' or ')}`;
          errors.push({ pointer, code: 'unexpected-file', detail });
        }
      } else if (options.fileNames.includes(part.fieldname)) {
        files++;
        errors.push({ pointer, code: 'not-a-file', detail: 'is text: send it as a file, with a filename' });
      } else if (!options.fields.includes(part.fieldname))
        errors.push({
          pointer,
          code: 'additionalProperties',
          detail: `is not known here${options.fields.length ? `; known are ${options.fields.join(', ')}` : ': send files only'}`,
        });
      else if (part.fieldname in fields)
        errors.push({ pointer, code: 'duplicate', detail: 'is given twice' });
      else if (part.valueTruncated || typeof part.value !== 'string' || /[\0\p{Cs}]/u.test(part.value))
        errors.push({
          pointer,
          code: 'invalid-text',
          detail: `must be text of at most ${MAX_FIELD_BYTES} bytes`,
        });
      else fields[part.fieldname] = part.value;
    }
  } catch (error) {
    // The rest is read and dropped: the connection can be used again, and the client sees the answer.
    request.raw.unpipe().resume();
    throw asProblem(error);
  }
  if (files === 0)
    errors.unshift({
      pointer: `/${options.fileNames[0] === '*' ? 'file' : options.fileNames[0]}`,
      code: 'required',
      detail: 'is required: send a file part',
    });
  if (errors.length) throw new ProblemError('validation-failed', 'The form is not valid.', errors);
  return fields;
}

/** The parser's own errors have no type of their own, only these messages ("needle": the boundary). */
function asProblem(error: unknown): unknown {
  const { message = '', code = '' } = error as { message?: string; code?: string };
  if (
    code === 'FST_MP_PREMATURE_CLOSE' ||
    /^(Multipart: |Unexpected end of|Part terminated|Malformed|Premature close|aborted|The needle )/i.test(
      message,
    )
  )
    return new ProblemError('malformed-request', `The multipart form is broken: ${message}.`);
  return error;
}
