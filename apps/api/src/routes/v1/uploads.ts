import { Id, newId, ProblemError, Upload, UploadRequest, type UploadPart, Type } from '@ntaa/contracts';
import { KeyLost, QuotaExceeded, type Once, type StoredUpload } from '@ntaa/db';
import { ObjectMissing, PartSize, type Part } from '@ntaa/storage';
import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import {
  openParts,
  partSizeFor,
  partsOf,
  presentParts,
  presentUpload,
  UPLOAD_HOURS,
} from '../../part-uploads.js';
import { bodyHash, createOnce } from '../../plugins/idempotency.js';
import { problems, ref } from '../../plugins/openapi.js';
import type { App, Deps } from '../../types.js';

const tags = ['datasets'];
const Params = Type.Object({ id: Id('up') });

export function uploadRoutes(app: App, deps: Deps): void {
  const { db, store, config } = deps;
  app.post(
    '/v1/uploads',
    {
      config: { scope: 'write' },
      schema: {
        tags,
        summary: 'Begin the upload of an archive in parts',
        description:
          'For archives too large for one request: PUT each part to its `url` (no API key; parts may be sent in any ' +
          'order, several at a time, and again), then `POST /v1/datasets` with the id of the upload.',
        headers: Type.Object({ 'idempotency-key': Type.Optional(Type.String()) }),
        body: UploadRequest,
        response: { 201: ref(Upload), ...problems(400, 409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { size, filename } = request.body;
      const partSize = partSizeFor(size, config.maxUploadBytes);
      const id = newId('up');
      const key = `uploads/${id}/archive`;
      let parts: UploadPart[] = [];
      const create = async (once: Once<StoredUpload> | undefined): Promise<StoredUpload> => {
        const handle = await store.parts.begin(key);
        const upload = {
          ...{ id, tenant: request.principal.tenant, filename: filename?.trim() || null },
          ...{ size, partSize, key, handle, secret: randomBytes(24).toString('base64url') },
          expiresAt: new Date(Date.now() + UPLOAD_HOURS * 3600_000),
        };
        try {
          parts = await presentParts(store, upload, addressOf(request));
          return await db.uploads.create(upload, once);
        } catch (error) {
          // Refused for certain. After anything else it may be there all the same.
          if (error instanceof KeyLost || error instanceof QuotaExceeded)
            await store.parts.abort({ key, handle });
          throw error;
        }
      };
      const answer = (upload: StoredUpload) => ({
        ...{ status: 201, headers: { location: `/v1/uploads/${id}` } },
        body: presentUpload(upload, parts),
      });
      return createOnce(db, request, reply, { hash: bodyHash(request.body), create, answer });
    },
  );

  app.get(
    '/v1/uploads/:id',
    {
      // Its URLs let whoever has them send parts.
      config: { scope: 'write' },
      schema: {
        tags,
        summary: 'Which parts have arrived, and fresh URLs',
        params: Params,
        response: { 200: ref(Upload), ...problems(404, 409) },
      },
    },
    async (request) => {
      const { id } = request.params;
      const upload = await db.uploads.get(id, request.principal.tenant);
      if (!upload) throw new ProblemError('not-found', `There is no upload ${id}, or it has expired.`);
      return presentUpload(upload, await openParts(store, upload, addressOf(request)));
    },
  );

  void app.register(async (scope) => partRoute(scope as App, deps));
}

/** Takes a part where the store has no URLs of its own. The token in the URL stands for the API key. */
function partRoute(app: App, { db, store }: Deps): void {
  // Whatever the bytes are called, they are taken as they come.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  app.put(
    '/v1/uploads/:id/parts/:number',
    {
      config: { signedUrl: true },
      // The token is not to be read in logs.
      logSerializers: {
        req: ({ method, routeOptions }: FastifyRequest) => ({ method, url: routeOptions.url }),
      },
      schema: {
        hide: true,
        params: Type.Object({ id: Id('up'), number: Type.Integer({ minimum: 1, maximum: 10_000 }) }),
        querystring: Type.Object({ token: Type.Optional(Type.String({ maxLength: 100 })) }),
      },
    },
    async (request, reply) => {
      const { id, number } = request.params;
      const upload = await db.uploads.get(id);
      const part = upload && partsOf(upload)[number - 1];
      try {
        if (!upload || !part || !equal(request.query.token ?? '', upload.secret))
          throw new ProblemError('not-found', 'There is nothing to send here, or this URL has expired.');
        if (upload.dataset !== null)
          throw new ProblemError('conflict', `${id} has become the dataset ${upload.dataset}.`);
        checkLength(request, part);
        await store.parts.put(upload, part, request.raw);
      } catch (error) {
        // The rest is read and dropped: the client sees the answer.
        request.raw.resume();
        if (error instanceof PartSize) throw wrongSize(error.message);
        if (error instanceof ObjectMissing)
          throw new ProblemError('conflict', `What arrived of ${id} is gone; begin another upload.`);
        throw error;
      }
      return reply.code(200).send();
    },
  );
}

const wrongSize = (detail: string): ProblemError => new ProblemError('validation-failed', `${detail}.`);

function checkLength({ headers }: FastifyRequest, part: Part): void {
  const length = headers['content-length'];
  if (length !== undefined && Number(length) !== part.size)
    throw wrongSize(`Part ${part.number} must have ${part.size} bytes, not ${length}`);
}

const equal = (a: string, b: string): boolean =>
  a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));

/** The service's address as this caller reaches it, through a proxy too. */
function addressOf(request: FastifyRequest): string {
  const forwarded = request.headers['x-forwarded-proto'];
  const protocol = forwarded === 'https' || forwarded === 'http' ? forwarded : request.protocol;
  return `${protocol}://${request.host}`;
}
