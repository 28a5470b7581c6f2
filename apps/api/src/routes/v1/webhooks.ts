import {
  CreatedWebhook,
  DELIVERY_STATUSES,
  Id,
  ListOf,
  PageQuery,
  ProblemError,
  Webhook,
  WebhookDelivery,
  WebhookPatch,
  WebhookRequest,
  Type,
} from '@ntaa/contracts';
import type { MadeWebhook } from '@ntaa/db';
import { bodyHash, createOnce } from '../../plugins/idempotency.js';
import { problems, ref } from '../../plugins/openapi.js';
import type { App, Deps } from '../../types.js';
import { AddressGuard, AddressRefused } from '../../webhooks/guard.js';

const tags = ['webhooks'];
const Params = Type.Object({ id: Id('wh') });
const noSuchWebhook = (id: string) => new ProblemError('not-found', `There is no webhook ${id}.`);

export function webhookRoutes(app: App, { db, config }: Deps): void {
  const guard = new AddressGuard(config.webhookAllow);
  /** As far as can be said without resolving its name: that is done at every connection. */
  const checkUrl = (url: string | undefined): void => {
    try {
      if (url !== undefined) guard.checkUrl(url);
    } catch (error) {
      if (!(error instanceof AddressRefused)) throw error;
      throw new ProblemError('validation-failed', `The webhook's URL cannot be used: it ${error.message}.`, [
        { pointer: '/url', code: 'url-not-allowed', detail: error.message },
      ]);
    }
  };

  app.post(
    '/v1/webhooks',
    {
      config: { scope: 'write' },
      schema: {
        tags,
        summary: 'Have an address told of events',
        description:
          'Deliveries are signed as https://www.standardwebhooks.com says, repeated for three days until the receiver ' +
          'answers 2xx, and may come twice or out of order: `webhook-id` tells them apart. Redirects are not followed. The secret is shown ' +
          'in this answer only; a repetition with the same Idempotency-Key has `secret: null`: if the answer was lost on ' +
          'the way, delete that webhook and make another.',
        headers: Type.Object({ 'idempotency-key': Type.Optional(Type.String()) }),
        body: WebhookRequest,
        response: { 201: ref(CreatedWebhook), ...problems(400, 409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      checkUrl(request.body.url);
      const show = ({ webhook }: MadeWebhook, secret: string | null) => ({
        ...{ status: 201, headers: { location: `/v1/webhooks/${webhook.id}` } },
        body: { ...webhook, secret },
      });
      return createOnce<MadeWebhook>(db, request, reply, {
        hash: bodyHash(request.body),
        create: (once) => db.webhooks.create(request.principal.tenant, request.body, once),
        answer: (made) => show(made, made.secret),
        replay: (made) => show(made, null),
      });
    },
  );
  app.get(
    '/v1/webhooks',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'List webhooks, newest first',
        querystring: Type.Object(PageQuery, { additionalProperties: false }),
        response: { 200: ListOf(ref(Webhook)), ...problems(422) },
      },
    },
    async (request) => db.webhooks.list(request.principal.tenant, request.query),
  );
  app.get(
    '/v1/webhooks/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'Get a webhook',
        params: Params,
        response: { 200: ref(Webhook), ...problems(404) },
      },
    },
    async ({ principal, params: { id } }) => {
      const webhook = await db.webhooks.get(principal.tenant, id);
      if (!webhook) throw noSuchWebhook(id);
      return webhook;
    },
  );
  app.patch(
    '/v1/webhooks/:id',
    {
      config: { scope: 'write' },
      schema: {
        tags,
        summary: 'Change a webhook',
        params: Params,
        body: WebhookPatch,
        response: { 200: ref(Webhook), ...problems(400, 404, 413, 415, 422) },
      },
    },
    async ({ principal, params: { id }, body }) => {
      checkUrl(body.url);
      const webhook = await db.webhooks.update(principal.tenant, id, body);
      if (!webhook) throw noSuchWebhook(id);
      return webhook;
    },
  );
  app.delete(
    '/v1/webhooks/:id',
    {
      config: { scope: 'write' },
      schema: {
        tags,
        summary: 'Delete a webhook, and what it was not told yet',
        params: Params,
        response: { 204: Type.Null({ description: 'Deleted' }), ...problems(404) },
      },
    },
    async ({ principal, params: { id } }, reply) => {
      if (!(await db.webhooks.delete(principal.tenant, id))) throw noSuchWebhook(id);
      return reply.code(204).send();
    },
  );
  app.post(
    '/v1/webhooks/:id/ping',
    {
      config: { scope: 'write' },
      schema: {
        tags,
        summary: 'Deliver a webhook.ping, to try it',
        params: Params,
        response: { 202: ref(WebhookDelivery), ...problems(404) },
      },
    },
    async ({ principal, params: { id } }, reply) => {
      const delivery = await db.webhooks.ping(principal.tenant, id);
      if (!delivery) throw noSuchWebhook(id);
      return reply.code(202).send(delivery);
    },
  );
  app.get(
    '/v1/webhooks/:id/deliveries',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'What it was told, newest first, of the last 30 days',
        params: Params,
        querystring: Type.Object(
          { ...PageQuery, status: Type.Optional(Type.Enum([...DELIVERY_STATUSES])) },
          { additionalProperties: false },
        ),
        response: { 200: ListOf(ref(WebhookDelivery)), ...problems(404, 422) },
      },
    },
    async ({ principal, params: { id }, query }) => {
      const page = await db.webhooks.deliveries(principal.tenant, id, query);
      if (!page) throw noSuchWebhook(id);
      return page;
    },
  );
}
