/** What a tenant may have, what it has, and what was done in its name. */
import {
  AuditEntry,
  Limits as LimitsView,
  ListOf,
  OPERATOR_TENANT,
  PageQuery,
  TenantId,
  Usage,
  Type,
} from '@ntaa/contracts';
import { DEFAULT_LIMITS as DATASET } from '@ntaa/data';
import { LARGEST_ARCHIVE } from '../../part-uploads.js';
import { problems, ref } from '../../plugins/openapi.js';
import { JSON_BYTES, type App, type Deps, type Limits } from '../../types.js';
import { PREDICT } from './models.js';

export function accountRoutes(app: App, { db, config }: Deps, limits: Limits): void {
  const tags = ['account'];
  app.get(
    '/v1/limits',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'Everything that may be too much',
        response: { 200: ref(LimitsView), ...problems() },
      },
    },
    async ({ principal }) => {
      const quotas = await db.tenants.quotas(principal.tenant);
      return {
        object: 'limits' as const,
        tenant: principal.tenant,
        quotas,
        requests: {
          per_second: Math.min(limits.requestsPerSecond, quotas.requests_per_second ?? Infinity),
          unauthorized_per_minute: limits.failedAuthPerMinute,
          json_bytes: JSON_BYTES,
          idle_seconds: limits.idleMs / 1000,
        },
        datasets: {
          request_bytes: config.maxUploadBytes,
          upload_bytes: LARGEST_ARCHIVE,
          entries: DATASET.entries,
          unpacked_bytes: DATASET.unpackedBytes,
          compression_ratio: DATASET.ratio,
          image_bytes: DATASET.imageBytes,
          image_pixels: DATASET.imagePixels,
          annotation_bytes: DATASET.annotationBytes,
          classes: DATASET.classes,
        },
        predict: { images: PREDICT.images, image_bytes: PREDICT.imageBytes, bytes: PREDICT.bytes },
      };
    },
  );
  app.get(
    '/v1/usage',
    {
      config: { scope: 'read' },
      schema: {
        tags,
        summary: 'What is used, beside what may be',
        response: { 200: ref(Usage), ...problems() },
      },
    },
    async ({ principal }) => db.tenants.usage(principal.tenant),
  );
  app.get(
    '/v1/audit',
    {
      config: { scope: 'admin' },
      schema: {
        tags,
        summary: 'Who did what, from where, newest first',
        description:
          "Requests that changed something, or were answered 403, 404 or 5xx. Admin keys see their own tenant's; those of " +
          'the tenant "default" everybody\'s, or with `tenant` one\'s.',
        querystring: Type.Object(
          { ...PageQuery, tenant: Type.Optional(TenantId) },
          { additionalProperties: false },
        ),
        response: { 200: ListOf(ref(AuditEntry)), ...problems(422) },
      },
    },
    async ({ principal, query }) => {
      const { tenant = null, ...page } = query;
      // Another's is as empty as one that does not exist.
      const own = principal.tenant !== OPERATOR_TENANT;
      if (own && tenant !== null && tenant !== principal.tenant)
        return { object: 'list' as const, data: [], has_more: false, next_cursor: null };
      return db.audit.list({ ...page, tenant: own ? principal.tenant : tenant });
    },
  );
}
