import type { Client } from './client.js';
import type { Direct } from './direct.js';
import { pageOf, take } from './page.js';
import { toAuditEntry } from './rows.js';
import { together } from './together.js';
import { UnknownCursor, type Audit, type NewAuditEntry } from './types.js';

export function audit(db: Client, sql: Direct): Audit {
  const add = together(async (entries: readonly NewAuditEntry[]) => {
    const column = <K extends keyof NewAuditEntry>(name: K) => entries.map((entry) => entry[name]);
    await sql.$queryRaw`
      INSERT INTO audit_log (tenant_id, actor, action, target, status, address, request_id)
      SELECT * FROM unnest(${column('tenant')}::text[], ${column('actor')}::text[], ${column('action')}::text[],
        ${column('target')}::text[], ${column('status')}::int[], ${column('address')}::text[],
        ${column('requestId')}::text[])`;
    return entries.map(() => undefined);
  });
  return {
    add,
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
