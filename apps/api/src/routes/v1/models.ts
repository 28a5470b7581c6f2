import {
  DOWNLOAD_FORMATS,
  Id,
  ListOf,
  Model,
  PageQuery,
  Prediction,
  ProblemError,
  Type,
} from '@ntaa/contracts';
import { buffer } from 'node:stream/consumers';
import type { FastifyRequest } from 'fastify';
import { ImageIntake } from '../../image-intake.js';
import { Runtimes, softmax } from '../../inference.js';
import { readForm } from '../../multipart.js';
import { problems, ref } from '../../plugins/openapi.js';
import { attachment, selectRange } from '../../ranges.js';
import type { App, Deps } from '../../types.js';

const Params = Type.Object({ id: Id('mdl') });
const tags = ['models'];
/** One predict request: images, bytes of one, bytes of all. */
export const PREDICT = { images: 64, imageBytes: 20e6, bytes: 64e6 };
const PredictForm = Type.Object({
  file: Type.Array(Type.String({ contentMediaType: 'image/*' }), {
    minItems: 1,
    maxItems: PREDICT.images,
    description: `JPEG, PNG or WebP; parts of any name; together at most ${PREDICT.bytes} bytes`,
  }),
});

export function modelRoutes(app: App, deps: Deps): void {
  const { db } = deps;
  app.get(
    '/v1/models',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'List models, newest first',
        querystring: Type.Object(PageQuery, { additionalProperties: false }),
        response: { 200: ListOf(ref(Model)), ...problems(422) },
      },
    },
    async (request) => db.models.list(request.principal.tenant, request.query),
  );
  async function find(request: FastifyRequest, id: string): Promise<Model> {
    const model = await db.models.get(request.principal.tenant, id);
    if (!model) throw new ProblemError('not-found', `There is no model ${id}.`);
    return model;
  }
  app.get(
    '/v1/models/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'Get a model',
        params: Params,
        response: { 200: ref(Model), ...problems(404) },
      },
    },
    async (request) => find(request, request.params.id),
  );
  downloadRoute(app, deps, find);
  reportRoute(app, deps, find);
  predictRoute(app, deps, find);
}

type Find = (request: FastifyRequest, id: string) => Promise<Model>;

function downloadRoute(app: App, { db, store }: Deps, find: Find): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/models/:id/download',
    config: {
      scope: 'read',
      // Who took what out of the house.
      audit: true,
      produces: { 200: ['application/octet-stream'], 206: ['application/octet-stream'] },
    },
    schema: {
      tags,
      summary: 'Download a model',
      description:
        'The ETag is the SHA-256 of the whole file. Single byte ranges, If-Range and If-None-Match are honoured.',
      params: Params,
      querystring: Type.Object(
        {
          format: Type.Optional(
            Type.Union(
              DOWNLOAD_FORMATS.map((f) => Type.Literal(f)),
              { default: 'bundle' },
            ),
          ),
        },
        { additionalProperties: false },
      ),
      response: problems(404, 416, 422),
    },
    handler: async (request, reply) => {
      const { id } = request.params;
      const format = request.query.format ?? 'bundle';
      const file = await db.models.file(request.principal.tenant, id, format);
      if (!file) {
        await find(request, id);
        throw new ProblemError('not-found', `${id} has no file of format ${format}.`);
      }
      const etag = `"${file.sha256}"`;
      const part = selectRange(request.headers, etag, file.size);
      void reply
        .header('etag', etag)
        .header('accept-ranges', 'bytes')
        .header('cache-control', 'private, max-age=31536000, immutable');
      if (part.status === 304) return reply.code(304).send();
      if (part.status === 416) {
        void reply.header('content-range', `bytes */${file.size}`);
        throw new ProblemError('range-not-satisfiable', `The file has ${file.size} bytes.`);
      }
      const length = part.status === 206 ? part.end - part.start + 1 : file.size;
      if (part.status === 206)
        void reply.header('content-range', `bytes ${part.start}-${part.end}/${file.size}`);
      void reply
        .code(part.status)
        .header('content-length', String(length))
        .header('content-disposition', attachment(file.filename))
        .type(file.contentType);
      if (request.method === 'HEAD') return reply.send();
      return reply.send(await store.get(file.key, part.status === 206 ? part : undefined));
    },
  });
}

/**
 * What a report may do in a browser: show itself. Its own policy names the hash of its style, and both hold; here the
 * style cannot be named, because a newer version may have written the report.
 */
const REPORT_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";

function reportRoute(app: App, { db, store }: Deps, find: Find): void {
  app.get(
    '/v1/models/:id/report',
    {
      config: { scope: 'read', produces: { 200: ['text/html'] } },
      schema: {
        tags,
        summary: 'The report of the job that made a model, as a page',
        description:
          'report.html of the bundle: no scripts, nothing fetched. The ETag is its SHA-256. Models made before there were reports have none: 404.',
        params: Params,
        response: problems(404, 422),
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const file = await db.models.file(request.principal.tenant, id, 'report');
      if (!file) {
        await find(request, id);
        throw new ProblemError('not-found', `${id} was made without a report.`);
      }
      const etag = `"${file.sha256}"`;
      void reply
        .header('etag', etag)
        .header('cache-control', 'private, max-age=31536000, immutable')
        .header('content-security-policy', REPORT_POLICY);
      if (selectRange({ 'if-none-match': request.headers['if-none-match'] }, etag, file.size).status === 304)
        return reply.code(304).send();
      void reply.header('content-length', String(file.size)).type('text/html; charset=utf-8');
      return reply.send(await store.get(file.key));
    },
  );
}

function predictRoute(app: App, { db, store }: Deps, find: Find): void {
  const runtimes = new Runtimes();
  const intake = new ImageIntake();
  app.post(
    '/v1/models/:id/predict',
    {
      config: { scope: 'read', audit: false, form: PredictForm },
      schema: {
        tags,
        summary: "Predict from images: labels, ages or embeddings, by the model's task",
        params: Params,
        response: {
          200: Type.Object({ data: Type.Array(Prediction) }),
          ...problems(400, 404, 413, 415, 422, 429),
        },
      },
    },
    async (request) => {
      const model = await find(request, request.params.id);
      const file = await db.models.file(request.principal.tenant, model.id, 'onnx');
      if (!file) throw new ProblemError('not-found', `${model.id} has no ONNX file to run.`);
      const { names, images } = await readImages(request, model, intake);
      const load = async () => buffer(await store.get(file.key));
      const { output, rows } = await runtimes.run(file.sha256, load, images, model.preprocessing);
      return { data: rows.map((row, i) => toPrediction(names[i]!, model.labels, output, row)) };
    },
  );
}

/** Decodes the form's files one by one; the encoded bytes of at most one of them are held. */
async function readImages(
  request: FastifyRequest,
  model: Model,
  intake: ImageIntake,
): Promise<{ names: string[]; images: Uint8Array[] }> {
  const names: string[] = [];
  const images: Uint8Array[] = [];
  let bytes = 0;
  const options = {
    fields: [],
    fileNames: ['*'],
    maxFiles: PREDICT.images,
    maxFileBytes: PREDICT.imageBytes,
  };
  await readForm(request, options, async (part) => {
    const pointer = `/${part.fieldname}/${images.length}`;
    const name = part.filename || `image ${images.length + 1}`;
    const check = (size: number): void => {
      bytes += size;
      if (part.file.truncated || bytes > PREDICT.bytes)
        throw new ProblemError(
          'payload-too-large',
          `${name}: an image may have ${PREDICT.imageBytes} bytes, and all of them ${PREDICT.bytes}.`,
        );
    };
    try {
      images.push(await intake.decode(part.file, model.preprocessing, check));
    } catch (error) {
      if (!(error instanceof ProblemError) || error.code !== 'image-unreadable') throw error;
      throw new ProblemError(error.code, `${name}: ${error.message}`, [
        { pointer, code: error.code, detail: `${name}: ${error.message}` },
      ]);
    }
    names.push(name);
  });
  return { names, images };
}

function toPrediction(
  filename: string,
  labels: readonly string[],
  output: string,
  row: Float32Array,
): Prediction {
  if (output === 'age') return { filename, age: row[0]! };
  if (output === 'embedding') return { filename, embedding: [...row] };
  const probabilities = softmax(row).map((probability, i) => ({
    label: labels[i] ?? String(i),
    probability,
  }));
  const best = probabilities.reduce((a, b) => (b.probability > a.probability ? b : a));
  return { filename, label: best.label, confidence: best.probability, probabilities };
}
