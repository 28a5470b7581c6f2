/** Schema validation by ajv: strict for bodies, coercing for what comes as text; every problem is named, with a remedy. */
import { AdaptRequest, PretrainRequest, type ProblemCode, type ProblemDetail } from '@ntaa/contracts';
import { Ajv, type ErrorObject } from 'ajv';
import formats from 'ajv-formats';
import { ProblemError } from '@ntaa/contracts';
import type { FastifyError, FastifyRequest } from 'fastify';
import type { App } from '../types.js';

/** More problems than these in one request are not listed. */
const MAX_ERRORS = 100;

export function useValidation(app: App): void {
  const options = {
    allErrors: true,
    verbose: true,
    useDefaults: true,
    discriminator: true,
    strict: false,
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
  app.addHook('preValidation', async (request) => {
    refuseUnstorableText(request.body, '');
    refuseUnstorableText(request.query, '');
  });
}

/** Neither Postgres' text nor its JSON can hold these characters. Iterative: the body may be nested deeply. */
function refuseUnstorableText(root: unknown, at: string): void {
  const bad = /[\0\p{Cs}]/u;
  const stack: [unknown, string][] = [[root, at]];
  for (let next = stack.pop(); next; next = stack.pop()) {
    const [value, pointer] = next;
    if (typeof value === 'string' ? bad.test(value) : bad.test(pointer))
      throw new ProblemError(
        'validation-failed',
        'The request holds text that is not valid Unicode or contains NUL.',
        [
          {
            pointer: pointer.replace(/[\0\p{Cs}]/gu, '?').slice(0, 300),
            code: 'invalid-text',
            detail: 'remove NUL characters and lone surrogates',
          },
        ],
      );
    if (value === null || typeof value !== 'object' || Buffer.isBuffer(value)) continue;
    for (const [key, child] of Object.entries(value)) stack.push([child, depthLimited(pointer, key)]);
  }
}
/** A pointer is for reading: past a thousand characters it grows no further (the nesting may be 500,000 deep). */
const depthLimited = (pointer: string, key: string): string =>
  pointer.length > 1000 ? pointer : `${pointer}/${escapePointer(key)}`;

const escapePointer = (key: string): string => key.replaceAll('~', '~0').replaceAll('/', '~1');

export function describeValidation(
  error: FastifyError,
  request: FastifyRequest,
): { code: ProblemCode; detail: string; errors: ProblemDetail[] } {
  const context = error.validationContext ?? 'body';
  if (context === 'params')
    return { code: 'not-found', detail: 'There is no such thing: the id in the URL is not one.', errors: [] };
  const found = collapse((error.validation ?? []) as unknown as ErrorObject[]).map((e) =>
    describe(e, context, request.routeOptions.config.explain),
  );
  const errors = [...new Map(found.map((e) => [`${e.pointer}\n${e.detail}`, e])).values()].slice(
    0,
    MAX_ERRORS,
  );
  const what = { body: 'body', querystring: 'query string', headers: 'headers' }[context];
  const first = errors[0] ? ` First: ${errors[0].pointer || 'the body'} ${errors[0].detail}.` : '';
  const count = errors.length === 1 ? 'one problem' : `${errors.length} problems`;
  return { code: 'validation-failed', detail: `The ${what} has ${count}.${first}`, errors };
}

/**
 * A union reports the failure of each branch. Of these are kept: nothing when all branches are constants (the union's
 * own error lists them), else the failures of the branches that are not `null`.
 */
function collapse(errors: readonly ErrorObject[]): ErrorObject[] {
  let kept = [...errors];
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
  const last = params['missingProperty'] ?? params['additionalProperty'] ?? params['tag'];
  const path = typeof last === 'string' ? `${error.instancePath}/${escapePointer(last)}` : error.instancePath;
  const pointer = (context === 'body' ? path : path.replace(/^\//, '')).slice(0, 300);
  const code = error.keyword === 'anyOf' || error.keyword === 'discriminator' ? 'enum' : error.keyword;
  const value = error.keyword === 'discriminator' ? params['tagValue'] : error.data;
  return { pointer, code, detail: explain?.(path, value) ?? sentence(error, params) };
}

function sentence(error: ErrorObject, params: Record<string, unknown>): string {
  const show = (value: unknown) => JSON.stringify(value);
  switch (error.keyword) {
    case 'required':
      return 'is required';
    case 'additionalProperties': {
      const known = Object.keys((error.parentSchema?.['properties'] as object | undefined) ?? {});
      return `is not known here; known are ${known.join(', ')}`;
    }
    case 'const':
      return `must be ${show(params['allowedValue'])}`;
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
