import { JOB_STATUSES, isTerminal } from '@ntaa/contracts';
import { json, type Client } from './client.js';
import { enqueue } from './outbox.js';
import { newestFirst, pageOf } from './page.js';
import { toDataset } from './rows.js';
import type { Datasets } from './types.js';

const UNFINISHED = JOB_STATUSES.filter((status) => !isTerminal(status));

export function datasets(db: Client): Datasets {
  return {
    create({ id, name, format, tenant, uploadKey, sha256, bytes }) {
      return db.$transaction(async (tx) => {
        const row = await tx.dataset.create({
          data: { id, tenantId: tenant, name, format, uploadKey, sha256, bytes },
        });
        await enqueue(tx, tenant, { name: 'dataset.validate', payload: { dataset_id: id }, dedupe: id });
        return toDataset(row);
      });
    },
    async get(tenant, id) {
      const row = await db.dataset.findFirst({ where: { id, tenantId: tenant } });
      return row && toDataset(row);
    },
    async list(tenant, options = {}) {
      const query = newestFirst(tenant, options);
      const where = { ...query.where, ...(options.status ? { status: options.status } : {}) };
      return pageOf(await db.dataset.findMany({ ...query, where }), query.take, (row) => row.id, toDataset);
    },
    async markReady(id, ready) {
      const { count } = await db.dataset.updateMany({
        where: { id, status: 'validating' },
        data: {
          status: 'ready',
          format: ready.format,
          counts: json(ready.counts),
          labels: json(ready.labels),
          report: json(ready.report),
          pack: json(ready.pack),
          readyAt: new Date(),
        },
      });
      return count === 1;
    },
    async markInvalid(id, report, { format, counts } = {}) {
      const { count } = await db.dataset.updateMany({
        where: { id, status: 'validating' },
        data: {
          status: 'invalid',
          report: json(report),
          ...(format ? { format } : {}),
          ...(counts ? { counts: json(counts) } : {}),
        },
      });
      return count === 1;
    },
    delete(tenant, id) {
      return db.$transaction(async (tx) => {
        // Locked against jobs being created on it at this moment (jobs.create shares the lock).
        const found = await tx.$queryRaw<{ status: string }[]>`
          SELECT status FROM datasets WHERE id = ${id} AND tenant_id = ${tenant} FOR UPDATE`;
        if (!found[0]) return 'missing';
        const users = await tx.job.count({ where: { datasetId: id, status: { in: UNFINISHED } } });
        if (users > 0 || found[0].status === 'validating') return 'in-use';
        await tx.dataset.delete({ where: { id } });
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
