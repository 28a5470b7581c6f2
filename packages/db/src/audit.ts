import type { Client } from './client.js';
import type { Direct } from './direct.js';
import { pageOf, take } from './page.js';
import { toAuditEntry } from './rows.js';
import { UnknownCursor, type Audit } from './types.js';

export function audit(db: Client, sql: Direct): Audit {
  return {
    async add({ tenant, actor, action, target, status, address, requestId }) {
      await sql.$queryRaw`
        INSERT INTO audit_log (tenant_id, actor, action, target, status, address, request_id)
        VALUES (${tenant}, ${actor}, ${action}, ${target}, ${status}, ${address}, ${requestId})`;
    },
    async list({ tenant, after, ...options }) {
      const whose = tenant === null ? {} : { tenantId: tenant };
      const cursor = after === undefined ? null : /^\d{1,18}$/.test(after) ? BigInt(after) : 0n;
      if (cursor !== null && (await db.auditEntry.count({ where: { id: cursor, ...whose } })) === 0)
        throw new UnknownCursor();
      const taken = take(options);
      const where = { ...whose, ...(cursor === null ? {} : { id: { lt: cursor } }) };
      const rows = await db.auditEntry.findMany({ where, orderBy: { id: 'desc' }, take: taken });
      return pageOf(rows, taken, (row) => String(row.id), toAuditEntry);
    },
  };
}
