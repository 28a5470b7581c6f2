import { JOB_STATUSES, isTerminal } from '@ntaa/contracts';
import { json, type Client, type Tx } from './client.js';
import type { Direct } from './direct.js';
import type { Prisma } from './generated/client.js';
import { datasetFolder, discard } from './garbage.js';
import { answerOnce } from './idempotency.js';
import { enqueue } from './outbox.js';
import { newestFirst, pageOf } from './page.js';
import { requireRoom } from './quotas.js';
import { toDataset } from './rows.js';
import { QuotaExceeded, UploadUsed, type Datasets, type NewDataset } from './types.js';
import { announce } from './webhooks.js';

const UNFINISHED = JOB_STATUSES.filter((status) => !isTerminal(status));

/** Joining the parts of an upload may take so long, ms. */
const JOIN_LIMIT = 120_000;

/** Makes an upload this dataset's. Locked meanwhile: another request waits, and then finds it used. */
async function use(
  tx: Tx,
  tenant: string,
  upload: NonNullable<NewDataset['upload']>,
  datasetId: string,
): Promise<void> {
  await tx.$executeRawUnsafe(`SET LOCAL lock_timeout = ${JOIN_LIMIT}`);
  const free = await tx.$queryRaw<unknown[]>`
    SELECT 1 FROM uploads
    WHERE id = ${upload.id} AND tenant_id = ${tenant} AND dataset_id IS NULL AND expires_at > now() FOR UPDATE`;
  if (free.length === 0) throw new UploadUsed(upload.id);
  await upload.join();
  await tx.upload.update({ where: { id: upload.id }, data: { datasetId } });
}

export function datasets(db: Client, sql: Direct): Datasets {
  /** Ends the validation. The archive is not needed any more; of a refused one nothing is. */
  function settle(
    id: string,
    refused: boolean,
    data: Prisma.DatasetUpdateManyMutationInput,
    wanted: Parameters<typeof requireRoom>[2] = {},
  ): Promise<boolean> {
    return db.$transaction(async (tx) => {
      const before = await tx.dataset.findUnique({ where: { id } });
      if (before?.status === 'validating') await requireRoom(tx, before.tenantId, wanted);
      const { count } = await tx.dataset.updateMany({ where: { id, status: 'validating' }, data });
      if (count === 0) return false;
      const row = await tx.dataset.findUniqueOrThrow({ where: { id } });
      const { uploadKey, tenantId, name, status } = row;
      await discard(tx, refused ? [datasetFolder(id), uploadKey] : [uploadKey]);
      const { error = null } = (row.report ?? {}) as { error?: unknown };
      const type = refused ? 'dataset.invalid' : 'dataset.ready';
      await announce(tx, tenantId, type, { id, object: 'dataset', name, status, error });
      return true;
    });
  }

  const refuse: Datasets['markInvalid'] = (id, report, { format, counts } = {}) =>
    settle(id, true, {
      ...{ status: 'invalid', report: json(report) },
      ...(format ? { format } : {}),
      ...(counts ? { counts: json(counts) } : {}),
    });

  return {
    create({ id, name, format, tenant, uploadKey, sha256, bytes, upload }, once) {
      const write = async (tx: Tx) => {
        // What came in parts had its bytes reserved when it began.
        if (upload !== undefined) await use(tx, tenant, upload, id);
        else await requireRoom(tx, tenant, { bytes });
        await tx.garbage.deleteMany({ where: { key: datasetFolder(id) } });
        const row = await tx.dataset.create({
          data: { id, tenantId: tenant, name, format, uploadKey, sha256, bytes },
        });
        await enqueue(tx, tenant, { name: 'dataset.validate', payload: { dataset_id: id }, dedupe: id });
        return answerOnce(tx, once, toDataset(row));
      };
      return db.$transaction(write, upload === undefined ? {} : { timeout: JOIN_LIMIT });
    },
    async get(tenant, id) {
      const [row] = await sql.$queryRaw<Parameters<typeof toDataset>[0][]>`
        SELECT id, name, status, format, counts, labels, report, sha256, created_at AS "createdAt", ready_at AS "readyAt"
        FROM datasets WHERE id = ${id} AND tenant_id = ${tenant}`;
      return row ? toDataset(row) : null;
    },
    async list(tenant, options = {}) {
      const query = await newestFirst(tenant, options, (id) =>
        db.dataset.count({ where: { id, tenantId: tenant } }),
      );
      const where = { ...query.where, ...(options.status ? { status: options.status } : {}) };
      return pageOf(await db.dataset.findMany({ ...query, where }), query.take, (row) => row.id, toDataset);
    },
    async markReady(id, { format, counts, labels, report, pack, sha256 }) {
      const { images, pixels = 0 } = counts;
      const columns = {
        ...{ status: 'ready', format, counts: json(counts), labels: json(labels), report: json(report) },
        ...{ pack: json(pack), pixels, readyAt: new Date() },
        ...(sha256 === undefined ? {} : { sha256 }),
      };
      try {
        return await settle(id, false, columns, { images, pixels });
      } catch (error) {
        if (!(error instanceof QuotaExceeded)) throw error;
        const refusal = { code: 'quota-exceeded', detail: error.message, where: null };
        return refuse(id, { ...report, error: refusal }, { format, counts });
      }
    },
    markInvalid: refuse,
    async postpone(id) {
      const rows = await db.$queryRaw<{ failures: number }[]>`
        UPDATE datasets SET failures = failures + 1,
          retry_at = now() + least(120, 2 * power(2, least(failures, 10))) * interval '1 second'
        WHERE id = ${id} AND status = 'validating' RETURNING failures`;
      return rows[0]?.failures ?? 0;
    },
    delete(tenant, id) {
      return db.$transaction(async (tx) => {
        // Locked against jobs being created on it at this moment (jobs.create shares the lock).
        const found = await tx.$queryRaw<{ status: string; upload_key: string }[]>`
          SELECT status, upload_key FROM datasets WHERE id = ${id} AND tenant_id = ${tenant} FOR UPDATE`;
        if (!found[0]) return 'missing';
        const users = await tx.job.count({
          where: {
            status: { in: UNFINISHED },
            OR: [{ datasetId: id }, { request: { path: ['source_dataset'], equals: id } }],
          },
        });
        if (users > 0 || found[0].status === 'validating') return 'in-use';
        await tx.dataset.delete({ where: { id } });
        await discard(tx, [datasetFolder(id), found[0].upload_key]);
        return 'deleted';
      });
    },
    async forWorker(id) {
      const row = await db.dataset.findUnique({ where: { id } });
      if (!row) return null;
      const dataset = toDataset(row);
      return {
        id,
        name: row.name,
        format: dataset.format,
        tenant: row.tenantId,
        uploadKey: row.uploadKey,
        sha256: row.sha256,
        bytes: Number(row.bytes),
        status: dataset.status,
        pack: row.pack as Record<string, unknown> | null,
        dataset,
      };
    },
  };
}
