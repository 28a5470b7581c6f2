/** The OpenAPI 3.1 document, made from the routes' schemas: /openapi.json, and /docs to read and try it. */
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import {
  AdaptRequest,
  ApiKey,
  ApiKeyRequest,
  AuditEntry,
  Candidate,
  CreatedApiKey,
  CreatedWebhook,
  Dataset,
  DatasetRequest,
  Job,
  JobEvent,
  Limits,
  Model,
  PretrainRequest,
  PROBLEMS,
  Problem,
  Supernet,
  Tenant,
  TenantPatch,
  TenantRequest,
  Upload,
  UploadRequest,
  Usage,
  Webhook,
  WebhookDelivery,
  WebhookPatch,
  WebhookRequest,
  Worker,
  Type,
  type Static,
  type TSchema,
} from '@ntaa/contracts';
import type { App } from '../types.js';

/** Reference to a schema registered below, typed. */
export const ref = <T extends TSchema & { $id?: string }>(schema: T, id = schema.$id) =>
  Type.Unsafe<Static<T>>({ $ref: `${id}#` });

/** Responses for the statuses of errors a route can end in; what every route of /v1 can end in is added. */
export function problems(...statuses: number[]): Record<number, object> {
  return Object.fromEntries(
    [...new Set([...statuses, 401, 403, 429, 500, 503])].sort().map((status) => {
      const titles = Object.values(PROBLEMS).flatMap(([s, title]) => (s === status ? [title] : []));
      return [
        status,
        {
          description: titles.join('; or: '),
          content: { 'application/problem+json': { schema: { $ref: 'Problem#' } } },
        },
      ];
    }),
  );
}

export async function useOpenApi(app: App): Promise<void> {
  for (const schema of [
    Problem,
    Dataset,
    Job,
    JobEvent,
    Candidate,
    Model,
    Supernet,
    ApiKey,
    ApiKeyRequest,
    CreatedApiKey,
    Upload,
    UploadRequest,
    DatasetRequest,
    AuditEntry,
    Limits,
    Tenant,
    TenantPatch,
    TenantRequest,
    Usage,
    CreatedWebhook,
    Webhook,
    WebhookDelivery,
    WebhookPatch,
    WebhookRequest,
    Worker,
  ])
    app.addSchema(schema);
  app.addSchema({ ...AdaptRequest, $id: 'AdaptRequest' });
  app.addSchema({ ...PretrainRequest, $id: 'PretrainRequest' });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'NTAA',
        version: '0.1.0',
        description:
          'Adapts a pretrained image-recognition network, architecture and weights together, to your own images.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      // Relative to where the document was fetched from: right behind any proxy.
      servers: [{ url: '/' }],
      components: {
        securitySchemes: { bearer: { type: 'http', scheme: 'bearer', description: 'An API key' } },
      },
      security: [{ bearer: [] }],
    },
    refResolver: { buildLocalReference: (json, _base, _fragment, i) => String(json['$id'] ?? `def-${i}`) },
    transform: ({ schema, url, route }) => {
      const { form, produces } = route.config ?? {};
      const { content } = (schema?.body ?? {}) as { content?: object };
      const body = { content: { 'multipart/form-data': { schema: form }, ...content } };
      const response = {
        ...(schema?.response as object | undefined),
        ...producing(schema?.response, produces),
      };
      return { schema: { ...schema, ...(form && { body }), ...(produces && { response }) }, url };
    },
  });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP:
      "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
    uiConfig: { url: '/openapi.json' },
  });
  let document: object | undefined;
  app.get('/openapi.json', { schema: { hide: true } }, async (_request, reply) =>
    reply
      .type('application/json')
      .serializer(JSON.stringify)
      .send((document ??= modernise(app.swagger()))),
  );
}

/** Responses that are not JSON, which no serializer may know of; the JSON among them keep their schema. */
function producing(response: unknown, produces: Readonly<Record<string, readonly string[]>> = {}): object {
  const known = (response ?? {}) as Readonly<Record<string, { description?: string } | undefined>>;
  const schemaOf = (status: string, type: string) =>
    (type === 'application/json' && known[status]) || { type: 'string' };
  return Object.fromEntries(
    Object.entries(produces).map(([status, types]) => [
      status,
      {
        description: known[status]?.description ?? 'As asked for',
        content: Object.fromEntries(types.map((type) => [type, { schema: schemaOf(status, type) }])),
      },
    ]),
  );
}

/** Tuples the way JSON Schema 2020-12, and so OpenAPI 3.1, writes them; and schemas without their local ids. */
function modernise(node: object): object {
  if (Array.isArray(node)) return node.map((n: unknown) => (n instanceof Object ? modernise(n) : n));
  const entries = Object.entries(node).map(([key, value]): [string, unknown] => [
    key,
    value instanceof Object ? modernise(value as object) : value,
  ]);
  const out = Object.fromEntries(entries);
  if (Array.isArray(out['items'])) {
    out['prefixItems'] = out['items'];
    out['items'] = false;
    delete out['additionalItems'];
  }
  return out;
}
