import {
  DATASET_FORMATS,
  Dataset,
  DatasetReport,
  DatasetRequest,
  DatasetStatus,
  Id,
  ListOf,
  newId,
  PageQuery,
  ProblemError,
  type DatasetFormat,
  Type,
} from '@ntaa/contracts';
import { datasetFolder, KeyLost, QuotaExceeded, UploadUsed, type Once, type StoredResponse } from '@ntaa/db';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { readForm } from '../../multipart.js';
import { joinUpload } from '../../part-uploads.js';
import { bodyHash, createOnce, idempotencyKey } from '../../plugins/idempotency.js';
import { problems, ref } from '../../plugins/openapi.js';
import type { App, Deps } from '../../types.js';
import { storeArchive, tooLarge } from '../../uploads.js';

const UploadForm = Type.Object({
  file: Type.String({ contentMediaType: 'application/octet-stream', description: '.zip, .tar or .tar.gz' }),
  name: Type.Optional(Type.String({ maxLength: 200, description: "Default: the file's name" })),
  format: Type.Optional(
    Type.Union(
      DATASET_FORMATS.map((f) => Type.Literal(f)),
      { description: 'Default: detected' },
    ),
  ),
});
const Params = Type.Object({ id: Id('ds') });
const tags = ['datasets'];
const noSuchDataset = (id: string) => new ProblemError('not-found', `There is no dataset ${id}.`);

export function datasetRoutes(app: App, deps: Deps): void {
  const { db, store } = deps;
  app.post(
    '/v1/datasets',
    {
      config: { scope: 'write', form: UploadForm },
      schema: {
        tags,
        summary: 'Make a dataset of an archive of images',
        description:
          'The archive comes as a form, or in parts before (`POST /v1/uploads`) and is named as JSON. It is stored and ' +
          'then validated; poll the dataset until it is `ready` or `invalid`.',
        headers: Type.Object({ 'idempotency-key': Type.Optional(Type.String()) }),
        body: { content: { 'application/json': { schema: DatasetRequest } } },
        response: { 202: ref(Dataset), ...problems(400, 409, 413, 415, 422) },
      },
    },
    async (request, reply) =>
      request.isMultipart() || request.body === undefined
        ? fromForm(request, reply, deps)
        : fromUpload(request, reply, deps, request.body as DatasetRequest),
  );

  app.get(
    '/v1/datasets',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'List datasets, newest first',
        querystring: Type.Object(
          { ...PageQuery, status: Type.Optional(DatasetStatus) },
          { additionalProperties: false },
        ),
        response: { 200: ListOf(ref(Dataset)), ...problems(422) },
      },
    },
    async (request) => db.datasets.list(request.principal.tenant, request.query),
  );

  async function find(request: FastifyRequest, id: string): Promise<Dataset> {
    const dataset = await db.datasets.get(request.principal.tenant, id);
    if (!dataset) throw noSuchDataset(id);
    return dataset;
  }
  app.get(
    '/v1/datasets/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'Get a dataset',
        params: Params,
        response: { 200: ref(Dataset), ...problems(404) },
      },
    },
    async (request) => find(request, request.params.id),
  );

  app.get(
    '/v1/datasets/:id/report',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'What was found in the archive',
        description: 'Every skipped file and every warning. 409 while the dataset is still being validated.',
        params: Params,
        response: { 200: DatasetReport, ...problems(404, 409) },
      },
    },
    async (request) => {
      const { id, report, status } = await find(request, request.params.id);
      if (!report)
        throw new ProblemError(
          'conflict',
          `${id} is ${status}; its report comes with the end of validation.`,
        );
      return report;
    },
  );

  app.delete(
    '/v1/datasets/:id',
    {
      config: { scope: 'write' },
      schema: {
        tags,
        summary: 'Delete a dataset',
        params: Params,
        response: { 204: Type.Null({ description: 'Deleted' }), ...problems(404, 409) },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const outcome = await db.datasets.delete(request.principal.tenant, id);
      if (outcome === 'missing') throw noSuchDataset(id);
      if (outcome === 'in-use')
        throw new ProblemError(
          'conflict',
          `${id} is in use: it is being validated, or a job that has not ended needs it.`,
        );
      // Now where it can be; the collector knows of it, too.
      await store
        .deletePrefix(datasetFolder(id))
        .catch((err: unknown) => request.log.warn({ err, dataset: id }, 'objects not deleted yet'));
      return reply.code(204).send();
    },
  );
}

const accepted = (body: Dataset): StoredResponse => ({
  status: 202,
  headers: { location: `/v1/datasets/${body.id}` },
  body,
});

async function fromForm(request: FastifyRequest, reply: FastifyReply, deps: Deps): Promise<FastifyReply> {
  const { db, store } = deps;
  const key = idempotencyKey(request);
  const { id, name, format, sha256, size, uploadKey } = await receive(request, deps);
  const discard = () => store.delete(uploadKey);
  const create = async (once: Once<Dataset> | undefined): Promise<Dataset> => {
    try {
      const { tenant } = request.principal;
      return await db.datasets.create({ id, name, format, tenant, uploadKey, sha256, bytes: size }, once);
    } catch (error) {
      // Refused for certain. After anything else it may be there, and need its archive; if it is not, that is collected.
      if (error instanceof KeyLost || error instanceof QuotaExceeded) await discard();
      throw error;
    }
  };
  const hash = key === null ? '' : bodyHash({ name, format, sha256 });
  return createOnce(db, request, reply, { hash, create, answer: accepted, discard });
}

async function fromUpload(
  request: FastifyRequest,
  reply: FastifyReply,
  { db, store }: Deps,
  body: DatasetRequest,
): Promise<FastifyReply> {
  const { tenant } = request.principal;
  const create = async (once: Once<Dataset> | undefined): Promise<Dataset> => {
    const upload = await db.uploads.get(body.upload, tenant);
    if (!upload)
      throw new ProblemError('validation-failed', 'The upload cannot be used.', [
        { pointer: '/upload', code: 'unknown-upload', detail: 'does not exist, or has expired' },
      ]);
    const used = new ProblemError('conflict', `${upload.id} has become a dataset already.`);
    if (upload.dataset !== null) throw used;
    const { key: uploadKey, size: bytes, filename } = upload;
    const name = body.name?.trim() || filename || 'dataset';
    const format = body.format ?? null;
    const dataset = {
      ...{ id: newId('ds'), name, format, tenant, uploadKey, sha256: null, bytes },
      upload: { id: upload.id, join: () => joinUpload(store, upload) },
    };
    try {
      return await db.datasets.create(dataset, once);
    } catch (error) {
      throw error instanceof UploadUsed ? used : error;
    }
  };
  const hash = bodyHash(body);
  return createOnce(db, request, reply, { hash, create, answer: accepted, patience: JOINING });
}

/** Joining the parts of an archive takes no longer, seconds. */
const JOINING = 150;
/** Should this process die while the archive is being stored, so long afterwards it is deleted, seconds. */
const FORGOTTEN = 24 * 3600;

/** Streams the upload into the store. Whatever is wrong with the form, what was stored of it is deleted again. */
async function receive(request: FastifyRequest, { db, store, config }: Deps) {
  const max = config.maxUploadBytes;
  // Known to be too large before the first byte. The rest of a form around its file is small.
  if (Number(request.headers['content-length'] ?? 0) > max + 64 * 1024) throw tooLarge(max);
  const stated = Number(request.headers['content-length'] ?? 0) - 64 * 1024;
  await db.tenants.requireRoom(request.principal.tenant, { bytes: Math.max(0, stated) });
  const id = newId('ds');
  const uploadKey = `${datasetFolder(id)}upload`;
  await db.garbage.add([datasetFolder(id)], FORGOTTEN);
  let stored: { size: number; sha256: string } | undefined;
  let filename = '';
  try {
    const options = { fields: ['name', 'format'], fileNames: ['file'], maxFiles: 1, maxFileBytes: Infinity };
    const fields = await readForm(request, options, async (part) => {
      filename = part.filename;
      stored = await storeArchive(store, uploadKey, part.file, max);
    });
    return { id, uploadKey, ...stored!, ...checkFields(fields, filename) };
  } catch (error) {
    if (stored) await store.delete(uploadKey);
    throw error;
  }
}

function checkFields(
  fields: Record<string, string>,
  filename: string,
): { name: string; format: DatasetFormat | null } {
  const name = fields['name']?.trim() || filename.replace(/[\0\p{Cc}\p{Cs}]/gu, '').slice(-200) || 'dataset';
  const format = DATASET_FORMATS.find((f) => f === fields['format']) ?? null;
  const errors = [];
  if (name.length > 200)
    errors.push({ pointer: '/name', code: 'maxLength', detail: 'must have at most 200 characters' });
  if (fields['format'] && !format)
    errors.push({
      pointer: '/format',
      code: 'enum',
      detail: `must be one of ${DATASET_FORMATS.join(', ')}, or be left out to be detected`,
    });
  if (errors.length) throw new ProblemError('validation-failed', 'The form is not valid.', errors);
  return { name, format };
}
