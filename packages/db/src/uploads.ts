/** Archives that arrive in parts, until they have become a dataset or expire. */
import type { Client } from './client.js';
import type { Upload as UploadRow } from './generated/client.js';
import { answerOnce } from './idempotency.js';
import { requireRoom } from './quotas.js';
import type { StoredUpload, Uploads } from './types.js';

const toUpload = (row: UploadRow): StoredUpload => ({
  id: row.id,
  tenant: row.tenantId,
  filename: row.filename,
  size: Number(row.size),
  partSize: row.partSize,
  key: row.key,
  handle: row.handle,
  secret: row.secret,
  dataset: row.datasetId,
  createdAt: row.createdAt,
  expiresAt: row.expiresAt,
});

export function uploads(db: Client): Uploads {
  return {
    create({ id, tenant, filename, size, partSize, key, handle, secret, expiresAt }, once) {
      const data = { id, tenantId: tenant, filename, size, partSize, key, handle, secret, expiresAt };
      return db.$transaction(async (tx) => {
        await requireRoom(tx, tenant, { bytes: size });
        return answerOnce(tx, once, toUpload(await tx.upload.create({ data })));
      });
    },
    async get(id, tenant) {
      const row = await db.upload.findFirst({
        where: { id, expiresAt: { gt: new Date() }, ...(tenant === undefined ? {} : { tenantId: tenant }) },
      });
      return row && toUpload(row);
    },
    async collect(limit, remove) {
      const rows = await db.upload.findMany({
        where: { expiresAt: { lte: new Date() } },
        orderBy: { expiresAt: 'asc' },
        take: limit,
      });
      for (const row of rows) {
        // One that has become a dataset is joined, and deleted with the end of its validation.
        if (row.datasetId === null) await remove(toUpload(row));
        await db.upload.deleteMany({ where: { id: row.id } });
      }
      return rows.length;
    },
  };
}
