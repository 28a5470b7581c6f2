/** One mapper for every kind of row: from columns to the contract's shape. */
import type {
  ApiKey,
  AuditEntry,
  Candidate,
  Dataset,
  Job,
  JobEvent,
  Model,
  Supernet,
  Tenant,
  Webhook,
  WebhookDelivery,
} from '@ntaa/contracts';
import type {
  ApiKey as ApiKeyRow,
  AuditEntry as AuditEntryRow,
  Candidate as CandidateRow,
  Dataset as DatasetRow,
  Job as JobRow,
  JobEvent as JobEventRow,
  Model as ModelRow,
  Supernet as SupernetRow,
  Tenant as TenantRow,
  Webhook as WebhookRow,
  WebhookDelivery as WebhookDeliveryRow,
} from './generated/client.js';
import { toQuotas } from './quotas.js';

export type { JobRow };

const time = (date: Date | null): string | null => date?.toISOString() ?? null;
/** A JSON column: written by us in this shape. */
const as = <T>(value: unknown): T => value as T;

export function toApiKey(row: ApiKeyRow): ApiKey {
  return {
    id: row.id,
    object: 'api_key',
    name: row.name,
    scopes: row.scopes,
    tenant: row.tenantId,
    created_at: row.createdAt.toISOString(),
    last_used_at: time(row.lastUsedAt),
    revoked_at: time(row.revokedAt),
  };
}

export function toDataset(
  row: Pick<DatasetRow, 'id' | 'name' | 'status' | 'format' | 'sha256' | 'createdAt' | 'readyAt'> &
    Record<'counts' | 'labels' | 'report', unknown>,
): Dataset {
  return {
    id: row.id,
    object: 'dataset',
    name: row.name,
    status: as(row.status),
    format: as(row.format),
    counts: as(row.counts),
    labels: as(row.labels),
    report: as(row.report),
    sha256: row.sha256,
    created_at: row.createdAt.toISOString(),
    ready_at: time(row.readyAt),
  };
}

export function toSupernet(
  row: Pick<
    SupernetRow,
    'id' | 'name' | 'source' | 'paradigm' | 'architectures' | 'sha256' | 'builtin' | 'createdAt'
  > &
    Record<'searchSpace' | 'metrics' | 'params' | 'sizeBytes', unknown>,
): Supernet {
  return {
    id: row.id,
    object: 'supernet',
    name: row.name,
    source: row.source,
    paradigm: row.paradigm,
    search_space: as(row.searchSpace),
    architectures: row.architectures,
    params: Number(row.params),
    size_bytes: Number(row.sizeBytes),
    sha256: row.sha256,
    metrics: as(row.metrics),
    builtin: row.builtin,
    created_at: row.createdAt.toISOString(),
  };
}

/** What users see of a job. */
type Shown = Pick<JobRow, 'id' | 'kind' | 'task' | 'status' | 'stage' | 'attempt' | 'stopReason'> &
  Pick<JobRow, 'createdAt' | 'startedAt' | 'finishedAt'> &
  Record<'progress' | 'request' | 'result' | 'error', unknown>;
export function toJob(row: Shown, queuePosition: number | null): Job {
  const request = as<Job['request']>(row.request);
  return {
    id: row.id,
    object: 'job',
    kind: as(row.kind),
    task: row.task,
    status: as(row.status),
    stage: as(row.stage),
    attempt: row.attempt,
    progress: as(row.progress),
    queue_position: queuePosition,
    request,
    created_at: row.createdAt.toISOString(),
    started_at: time(row.startedAt),
    finished_at: time(row.finishedAt),
    stop_reason: as(row.stopReason),
    result: as(row.result),
    error: as(row.error),
    metadata: as(request['metadata'] ?? {}),
  };
}

export type EventRow = Pick<JobEventRow, 'seq' | 'type' | 'createdAt'> & { readonly data: unknown };
export function toJobEvent(row: EventRow): JobEvent {
  return { seq: row.seq, type: as(row.type), created_at: row.createdAt.toISOString(), data: as(row.data) };
}

export function toCandidate(row: CandidateRow): Candidate {
  return { ...as<Candidate>(row.data), pareto: row.pareto, selected: row.selected };
}

export function toModel(row: ModelRow): Model {
  return {
    id: row.id,
    object: 'model',
    task: row.task,
    labels: as(row.labels),
    genotype: as(row.genotype),
    macs: row.macs,
    params: Number(row.params),
    metrics: as(row.metrics),
    lineage: as(row.lineage),
    preprocessing: as(row.preprocessing),
    files: as(row.files),
    created_at: row.createdAt.toISOString(),
  };
}

export function toTenant(row: TenantRow): Tenant {
  return {
    id: row.id,
    object: 'tenant',
    name: row.name,
    quotas: toQuotas(row.limits),
    created_at: row.createdAt.toISOString(),
    disabled_at: time(row.disabledAt),
  };
}

export function toAuditEntry(row: AuditEntryRow): AuditEntry {
  return {
    id: String(row.id),
    object: 'audit_entry',
    tenant: row.tenantId,
    actor: row.actor,
    action: row.action,
    target: row.target,
    status: row.status,
    address: row.address,
    request_id: row.requestId,
    created_at: row.createdAt.toISOString(),
  };
}

export function toWebhook(row: WebhookRow): Webhook {
  return {
    id: row.id,
    object: 'webhook',
    url: row.url,
    events: row.events,
    description: row.description,
    enabled: row.enabled,
    created_at: row.createdAt.toISOString(),
  };
}

export function toDelivery(row: WebhookDeliveryRow): WebhookDelivery {
  return {
    id: row.id,
    object: 'webhook_delivery',
    type: row.type,
    status: as(row.status),
    attempts: row.attempts,
    response_status: row.responseStatus,
    error: row.error,
    next_attempt_at: time(row.nextAttemptAt),
    created_at: row.createdAt.toISOString(),
    delivered_at: time(row.deliveredAt),
  };
}
