import { json, type Client, type Tx } from './client.js';
import { newestFirst, pageOf } from './page.js';
import { toModel } from './rows.js';
import type { Models, NewModel, StoredFile } from './types.js';

export async function insertModel(tx: Tx, tenant: string, jobId: string, model: NewModel): Promise<void> {
  await tx.model.create({
    data: {
      id: model.id,
      tenantId: tenant,
      jobId,
      task: model.task,
      labels: json(model.labels),
      genotype: json(model.genotype),
      macs: model.macs,
      params: model.params,
      metrics: json(model.metrics),
      lineage: json(model.lineage),
      preprocessing: json(model.preprocessing),
      files: json(model.files),
      storage: json(model.storage),
    },
  });
}

export function models(db: Client): Models {
  return {
    async get(tenant, id) {
      const row = await db.model.findFirst({ where: { id, tenantId: tenant } });
      return row && toModel(row);
    },
    async list(tenant, options = {}) {
      const query = await newestFirst(tenant, options, (id) =>
        db.model.count({ where: { id, tenantId: tenant } }),
      );
      return pageOf(await db.model.findMany(query), query.take, (row) => row.id, toModel);
    },
    async file(tenant, id, format) {
      const row = await db.model.findFirst({ where: { id, tenantId: tenant }, select: { storage: true } });
      const storage = row?.storage as Record<string, StoredFile> | undefined;
      return storage?.[format] ?? null;
    },
  };
}
