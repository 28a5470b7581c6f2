/** Schema validation by ajv: strict for bodies, coercing for what comes as text; every problem is named, with a remedy. */
import {
  AdaptRequest,
  PretrainRequest,
  ProblemError,
  type ProblemCode,
  type ProblemDetail,
} from '@ntaa/contracts';
import { Ajv, type ErrorObject } from 'ajv';
import formats from 'ajv-formats';
import { isUtf8 } from 'node:buffer';
import type { FastifyError, FastifyRequest } from 'fastify';
import type { App } from '../types.js';

/** More problems than these in one request are not listed. */
const MAX_ERRORS = 100;
/** A pointer is for reading: it is cut at so many characters. */
const MAX_POINTER = 300;

export function useValidation(app: App): void {
  const options = {
    allErrors: true,
    verbose: true,
    useDefaults: true,
    discriminator: true,
    strict: false,
    // JSON can spell numbers that are none (1e999 is read as Infinity); `strict: false` would let them pass.
    strictNumbers: true,
    removeAdditional: false,
  } as const;
  const exact = new Ajv({ ...options, coerceTypes: false });
  const text = new Ajv({ ...options, coerceTypes: true });
  for (const ajv of [exact, text]) {
    formats.default(ajv);
    ajv.addSchema({ ...AdaptRequest, $id: 'AdaptRequest' });
    ajv.addSchema({ ...PretrainRequest, $id: 'PretrainRequest' });
  }
  app.setValidatorCompiler(({ schema, httpPart }) =>
    (httpPart === 'body' ? exact : text).compile(schema as object),
  );
  // Fastify's own parser would hand text on as a body of type string.
  app.removeContentTypeParser('text/plain');
  // Many clients name a content type although they send nothing, as to /cancel.
  app.addHook('onRequest', async ({ headers }) => {
    if (headers['content-length'] === '0') delete headers['content-type'];
  });
  app.addHook('preParsing', async ({ headers }) => {
    const encoding = headers['content-encoding']?.trim().toLowerCase() ?? 'identity';
    if (encoding !== 'identity')
      throw new ProblemError('unsupported-media-type', 'Send the body as it is, without Content-Encoding.');
  });
  const json = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    const text = body as Buffer;
    if (text.length === 0) done(null, undefined);
    else if (isUtf8(text)) void json(request, text.toString(), done);
    else done(new ProblemError('malformed-request', 'The body is not valid UTF-8.'));
  });
  app.addHook('preValidation', async (request) => {
    if (request.isMultipart() && !request.routeOptions.config.form) {
      request.raw.resume();
      throw new ProblemError('unsupported-media-type', 'This is no form: send application/json.');
    }
    refuseUnstorableText(request.body);
    refuseUnstorableText(request.query);
  });
}

/** A value and the way to it. */
interface Place {
  readonly value: unknown;
  readonly key: string;
  readonly parent: Place | null;
}
/** Neither Postgres' text nor its JSON can hold these characters. Iterative: the body may be nested deeply. */
function refuseUnstorableText(root: unknown): void {
  const bad = /[\0\p{Cs}]/u;
  const stack: Place[] = [{ value: root, key: '', parent: null }];
  for (let place = stack.pop(); place; place = stack.pop()) {
    const { value, key } = place;
    if (bad.test(key) || (typeof value === 'string' && bad.test(value)))
      throw new ProblemError('validation-failed', 'The request holds text that cannot be stored.', [
        {
          pointer: pointerTo(place),
          code: 'invalid-text',
          detail: 'remove NUL characters and lone surrogates',
        },
      ]);
    if (value === null || typeof value !== 'object' || Buffer.isBuffer(value)) continue;
    for (const [name, child] of Object.entries(value)) stack.push({ value: child, key: name, parent: place });
  }
}
function pointerTo(place: Place): string {
  let pointer = '';
  for (let at = place; at.parent && pointer.length < MAX_POINTER; at = at.parent)
    pointer = `/${escapePointer(at.key.replace(/[\0\p{Cs}]/gu, '?'))}${pointer}`;
  return pointer.slice(0, MAX_POINTER);
}

const escapePointer = (key: string): string => key.replaceAll('~', '~0').replaceAll('/', '~1');

export function describeValidation(
  error: FastifyError,
  request: FastifyRequest,
): { code: ProblemCode; detail: string; errors: ProblemDetail[] } {
  const context = error.validationContext ?? 'body';
  if (context === 'params')
    return { code: 'not-found', detail: 'There is no such thing: the id in the URL is not one.', errors: [] };
  const found = collapse(
    ((error.validation ?? []) as unknown as ErrorObject[]).slice(0, 10 * MAX_ERRORS),
  ).map((e) => describe(e, context, request.routeOptions.config.explain));
  const errors = [...new Map(found.map((e) => [`${e.pointer}\n${e.detail}`, e])).values()].slice(
    0,
    MAX_ERRORS,
  );
  const what = { body: 'body has', querystring: 'query string has', headers: 'headers have' }[context];
  const first = errors[0] ? ` First: ${errors[0].pointer || 'the body'} ${errors[0].detail}.` : '';
  const count = errors.length === 1 ? 'one problem' : `${errors.length} problems`;
  return { code: 'validation-failed', detail: `The ${what} ${count}.${first}`, errors };
}

/**
 * A union reports the failure of each branch. Of these are kept: nothing when all branches are constants (the union's
 * own error lists them), else the failures of the branches that are not `null`. And a value that must be a constant
 * need not be told its type.
 */
function collapse(errors: readonly ErrorObject[]): ErrorObject[] {
  const fixed = new Set(errors.filter((e) => e.keyword === 'const').map((e) => e.instancePath));
  let kept = errors.filter((e) => !(e.keyword === 'type' && fixed.has(e.instancePath)));
  // Of a property's name is said what is wrong with it, not also that something is.
  kept = kept.filter((e) => e.keyword !== 'propertyNames');
  for (const union of errors.filter((e) => e.keyword === 'anyOf')) {
    const inside = (e: ErrorObject) =>
      e !== union &&
      e.schemaPath.startsWith(`${union.schemaPath}/`) &&
      e.instancePath.startsWith(union.instancePath);
    if (choices(union)) kept = kept.filter((e) => !inside(e));
    else
      kept = kept.filter(
        (e) => e !== union && !(inside(e) && e.keyword === 'type' && e.params['type'] === 'null'),
      );
  }
  return kept;
}
const choices = (union: ErrorObject): unknown[] | null => {
  const branches = union.schema as { const?: unknown }[];
  return branches.every((b) => b.const !== undefined) ? branches.map((b) => b.const) : null;
};

function describe(
  error: ErrorObject,
  context: string,
  explain?: (pointer: string, value: unknown) => string | undefined,
): ProblemDetail {
  const params = error.params as Record<string, unknown>;
  const last =
    params['missingProperty'] ?? params['additionalProperty'] ?? params['tag'] ?? error.propertyName;
  const path = typeof last === 'string' ? `${error.instancePath}/${escapePointer(last)}` : error.instancePath;
  const pointer = (context === 'body' ? path : path.replace(/^\//, '')).slice(0, MAX_POINTER);
  const code = error.keyword === 'anyOf' || error.keyword === 'discriminator' ? 'enum' : error.keyword;
  const value = error.keyword === 'discriminator' ? params['tagValue'] : error.data;
  return { pointer, code, detail: explain?.(path, value) ?? sentence(error, params) };
}

function sentence(error: ErrorObject, params: Record<string, unknown>): string {
  const show = (value: unknown) => JSON.stringify(value);
  if (error.propertyName !== undefined) return `has a name that ${error.message ?? 'is not valid'}`;
  if (error.keyword === 'type' && (error.data === Infinity || error.data === -Infinity))
    return 'is too large a number';
  switch (error.keyword) {
    case 'required':
      return 'is required';
    case 'additionalProperties': {
      const known = Object.keys((error.parentSchema?.['properties'] as object | undefined) ?? {});
      return `is not known here${known.length ? `; known are ${known.join(', ')}` : ''}`;
    }
    case 'const':
      return `must be ${show(params['allowedValue'])}`;
    case 'enum':
      return `must be one of ${(params['allowedValues'] as unknown[]).map(show).join(', ')}`;
    case 'anyOf':
      return `must be one of ${(choices(error) ?? []).map(show).join(', ')}`;
    case 'discriminator':
      return `must be one of "adapt", "pretrain"`;
    case 'pattern':
      return `must match ${String(params['pattern'])}`;
    default:
      return error.message ?? 'is not valid';
  }
}
